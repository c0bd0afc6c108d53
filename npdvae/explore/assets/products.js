// ---- y = max(s, slope s) of s = x w + b on one block of float32: WebAssembly, or the same in plain JavaScript ----
// x [M, K], y [M, N], w in panels of 8 columns [N/8, K, 8], b [N]; M in fours, K and N in eights; places in floats.
const up = (n, m) => Math.ceil(n / m) * m;

function compiled(bytes) {
  try {
    const memory = new WebAssembly.Memory({initial: 1});
    const made = new WebAssembly.Instance(new WebAssembly.Module(bytes), {env: {memory}});
    return {memory, linear: made.exports.linear};
  } catch { return null; }                      // no WebAssembly, or none with SIMD
}

const wasm = compiled(numbers(run.kernel));
const heap = {f: wasm ? new Float32Array(wasm.memory.buffer) : new Float32Array(16384), top: 16};

function alloc(n) {                             // room for n floats, zero; old views of heap.f may be void after it
  const place = heap.top;
  heap.top += up(n, 16);
  if (heap.top > heap.f.length && wasm) {
    wasm.memory.grow(Math.ceil((heap.top - heap.f.length) / 16384));
    heap.f = new Float32Array(wasm.memory.buffer);
  } else if (heap.top > heap.f.length) {
    const old = heap.f;
    heap.f = new Float32Array(up(heap.top, 1 << 20));
    heap.f.set(old);
  }
  return place;
}

function plain(x, w, b, y, M, K, N, slope) {
  const f = heap.f, leak = s => s > 0 ? s : slope * s;
  for (let j = 0, p = w; j < N; j += 8, p += 8 * K) {
    for (let i = 0; i < M; i++) {
      let a0 = f[b + j], a1 = f[b + j + 1], a2 = f[b + j + 2], a3 = f[b + j + 3];
      let a4 = f[b + j + 4], a5 = f[b + j + 5], a6 = f[b + j + 6], a7 = f[b + j + 7];
      for (let k = 0, q = p; k < K; k++, q += 8) {
        const v = f[x + i * K + k];
        a0 += v * f[q]; a1 += v * f[q + 1]; a2 += v * f[q + 2]; a3 += v * f[q + 3];
        a4 += v * f[q + 4]; a5 += v * f[q + 5]; a6 += v * f[q + 6]; a7 += v * f[q + 7];
      }
      const o = y + i * N + j;
      f[o] = leak(a0); f[o + 1] = leak(a1); f[o + 2] = leak(a2); f[o + 3] = leak(a3);
      f[o + 4] = leak(a4); f[o + 5] = leak(a5); f[o + 6] = leak(a6); f[o + 7] = leak(a7);
    }
  }
}

const linear = !wasm ? plain : (x, w, b, y, M, K, N, slope) =>
  wasm.linear(4 * x, 4 * w, 4 * b, 4 * y, M, K, N, slope);

