"""Whether the peers help: on a busy machine a step may be longer with them than alone, for who waits for a chunk that
another began waits for the processor that the other has lost.

Worker 0 judges each step by two clocks. After a bad one its peers rest for some steps' time, then are tried again.
"""
from npdvae.kernels.cpu.clocks import wall
from npdvae.kernels.cpu.compiler import helper
from npdvae.kernels.cpu.sync import NAP, atomic_add, atomic_load, nap

LONGEST = 64                                    # rest, in steps of the length that caused it
REST = 1000                                     # microseconds between two looks whether it is over, at most

# entries of `pace`, int64: whether the peers rest, until when and how many steps' time; then what worker 0 has measured
# of the present step: nanoseconds on the wall and on its processor, of them spinning; chunks of its own, and of all
RESTING, UNTIL, LENGTH, WALL, USED, SPUN, OWN, ALL = range(8)
ENTRIES = 8


@helper
def rest(pace, sync, done, quit, step):
    """Let a peer sleep while it is to rest from `step`, unless that has been done without it, or all is over."""
    while atomic_load(pace, RESTING) and atomic_load(sync, done) <= step and not atomic_load(sync, quit):
        nap(min(max((pace[UNTIL] - wall()) // 1000, NAP), REST))


@helper
def judge(pace, now):
    """After a step: a bad one was longer, by a quarter, than worker 0 would have taken for all of its chunks."""
    if pace[RESTING]:
        if now >= pace[UNTIL]:
            atomic_add(pace, RESTING, -1)
    elif 0 < pace[OWN] < pace[ALL]:
        alone = (pace[USED] - pace[SPUN]) / pace[OWN] * pace[ALL]
        if pace[WALL] > 1.25 * alone:
            pace[LENGTH] = min(max(2 * pace[LENGTH], 1), LONGEST)
            pace[UNTIL] = now + pace[LENGTH] * pace[WALL]
            atomic_add(pace, RESTING, 1)
        else:
            pace[LENGTH] //= 2
    pace[WALL:] = 0
