// ---- q(z | x): {p} with probabilities [D, K] where z is discrete, else {mode, low, high} as numbers shown [D] ----
const encoder = run.latent.encoder && new MLP(run.encoder);

function softmax(p, from, to) {
  let top = -Infinity, sum = 0;
  for (let k = from; k < to; k++) top = Math.max(top, p[k]);
  for (let k = from; k < to; k++) sum += p[k] = Math.exp(p[k] - top);
  for (let k = from; k < to; k++) p[k] /= sum;
}

const QS = {
  logits(h) {
    const p = Float64Array.from(h.subarray(0, D * K));
    for (let d = 0; d < D; d++) softmax(p, d * K, (d + 1) * K);
    return {p};
  },
  distances(h, {codebook, size, scale}) {       // logits -scale |h - e|^2
    const p = new Float64Array(D * K);
    for (let d = 0; d < D; d++) {
      for (let k = 0; k < K; k++) p[d * K + k] = -scale * squared(h, d * size, codebook, k * size, size);
      softmax(p, d * K, (d + 1) * K);
    }
    return {p};
  },
  nearest(h, {codebook, size, tables, levels, cosine}) {    // level by level: each codes what those before leave over
    const codes = new Uint32Array(D);
    for (let v = 0; v < D / levels; v++) {
      const left = Float64Array.from(h.subarray(v * size, (v + 1) * size));
      if (cosine) scaleBy(left, 1 / norm(left));
      for (let d = v * levels; d < (v + 1) * levels; d++) {
        let least = Infinity;
        for (let k = 0; k < K; k++) {
          const far = squared(left, 0, codebook, (tables[d] * K + k) * size, size);
          if (far < least) [least, codes[d]] = [far, k];
        }
        for (let c = 0; c < size; c++) left[c] -= codebook[(tables[d] * K + codes[d]) * size + c];
      }
    }
    return point(codes);
  },
  rounded(h, {squash}) {                        // to the nearest of K levels from -1 to 1, of equals the higher
    const y = Float64Array.from(h.subarray(0, D));
    if (squash === "unit") scaleBy(y, 1 / norm(y));
    return point(y.map(v => {
      const step = (K - 1) / 2 * (squash === "tanh" ? Math.tanh(v) : v) + K / 2;
      return Math.min(Math.max(Math.floor(step), 0), K - 1);
    }));
  },
  location(h, {deviation}) {
    const sigma = d => deviation * Math.exp(h[D + d]);
    return spread(d => h[d], d => h[d] - sigma(d), d => h[d] + sigma(d));
  },
  gamma(h) {                                    // mean alpha theta, deviation sqrt(alpha) theta
    const mean = d => Math.exp(h[d] + h[D + d]), wide = d => Math.exp(h[d] / 2 + h[D + d]);
    return spread(mean, d => mean(d) - wide(d), d => mean(d) + wide(d));
  },
  kumaraswamy(h) {                              // median, and the quantiles of one deviation
    const at = u => d => (1 - u ** Math.exp(-h[D + d])) ** Math.exp(-h[d]);
    return spread(at(0.5), at(0.8413), at(0.1587));
  },
  dirichlet(h) {
    const alpha = Float64Array.from(h.subarray(0, D), Math.exp), total = alpha.reduce((a, b) => a + b);
    const mean = d => alpha[d] / total, wide = d => Math.sqrt(mean(d) * (1 - mean(d)) / (total + 1));
    return spread(mean, d => mean(d) - wide(d), d => mean(d) + wide(d));
  },
};

function squared(a, i, b, j, n) {
  let sum = 0;
  for (let c = 0; c < n; c++) sum += (a[i + c] - b[j + c]) ** 2;
  return sum;
}

const norm = v => Math.max(Math.hypot(...v), 1e-6);
function scaleBy(v, factor) { v.forEach((_, i) => { v[i] *= factor; }); }

function point(codes) {
  const p = new Float64Array(D * K);
  codes.forEach((k, d) => { p[d * K + k] = 1; });
  return {p, point: true};
}

const spread = (...of) => {
  const [mode, low, high] = of.map(value => Float64Array.from({length: D}, (_, d) => value(d)));
  return {mode, low, high};
};

const settings = encoder && {...run.latent.encoder};
if (settings && settings.codebook) settings.codebook = numbers(settings.codebook);

function encode(x) {
  if (!encoder) return null;
  heap.f.set(x, encoder.input);
  const h = encoder.forward(1);
  return QS[settings.kind](heap.f.subarray(h, h + encoder.outputs), settings);
}

// The most probable z under p [D, K].
function modeOf(p) {
  return Uint32Array.from({length: D}, (_, d) => {
    let best = d * K;
    for (let k = d * K; k < (d + 1) * K; k++) if (p[k] > p[best]) best = k;
    return best - d * K;
  });
}

