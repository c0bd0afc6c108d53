// What changes from step to step is on the device, so that one captured graph serves all steps of a run.
// clock: number of the step since training began, number of the batch in this run, seed.
// settings [steps, SETTINGS]: one row for each step of this run, computed on the host in double precision.
#define STEP 0
#define BATCH 1
#define SEED 2

#define SETTINGS 4
#define RATE 0
#define SCALE 1
#define KL_WEIGHT 2
#define TEMPERATURE 3

__device__ __forceinline__ double setting(const double* settings, const long long* clock, int which) {
    return settings[clock[BATCH] * SETTINGS + which];
}
