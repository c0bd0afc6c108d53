// ---- p(x | z): cost = scale (sum_p norm(a_p) - x_p a_p + own(x_p)) + constant, and the pixels' means ----
const {scale, constant} = run.likelihood;
const softplus = a => Math.max(a, 0) + Math.log(1 + Math.exp(-Math.abs(a)));   // to 1e-16, absolute
const sigmoid = a => a < 0 ? Math.exp(a) / (1 + Math.exp(a)) : 1 / (1 + Math.exp(-a));

const PIXELS = {
  bernoulli: {mean: sigmoid, norm: softplus, own: () => 0},
  gaussian: {mean: a => a, norm: a => a * a / 2, own: x => x * x / 2},
  continuous_bernoulli: {
    mean(a) {                                   // 1 / (1 - exp(-a)) - 1 / a; its series near 0
      const m = Math.abs(a);
      if (m < 0.1) return 0.5 + a / 12 - a ** 3 / 720 + a ** 5 / 30240 - a ** 7 / 1209600;
      const big = -1 / Math.expm1(-m) - 1 / m;
      return a > 0 ? big : 1 - big;
    },
    norm(a) {                                   // log int_0^1 exp(a x) dx
      const m = Math.abs(a);
      return m < 1e-9 ? a / 2 : Math.max(a, 0) + Math.log(-Math.expm1(-m) / m);
    },
    own: () => 0,
  },
};
const pixel = PIXELS[run.likelihood.name];

function means(a) {                             // [P] of outputs at a place
  const m = new Float32Array(P);
  for (let p = 0; p < P; p++) m[p] = pixel.mean(heap.f[a + p]);
  return m;
}

function norms(a) {
  let sum = 0;
  for (let p = 0; p < P; p++) sum += pixel.norm(heap.f[a + p]);
  return sum;
}

// x for many z: the pixels that are not 0, and what does not depend on z.
function prepared(x) {
  const on = [];
  let own = 0;
  for (let p = 0; p < P; p++) if (x[p] !== 0) { on.push(p); own += pixel.own(x[p]); }
  return {x, on: Int32Array.from(on), constant: scale * own + constant};
}

function logLikelihood({x, on, constant}, a, norm) {
  const f = heap.f;
  let dot = 0;
  for (let i = 0; i < on.length; i++) dot += x[on[i]] * f[a + on[i]];
  return scale * (dot - norm) - constant;
}

