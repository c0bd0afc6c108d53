// ---- every code decoded once; then log p(x), p(z | x) and the bounds of any image by sums over codes, in nats ----
const exact = run.exact && {count: run.exact.codes, logPrior: numbers(run.exact.log_prior), done: 0,
                            norms: new Float64Array(run.exact.codes), ready: false};
if (exact) exact.a = alloc(up(exact.count, 4) * decoder.outputs);

function decodeTile() {                         // the next tile of codes; true when none is left
  const n = exact.done, M = Math.min(TILE, exact.count - n), a = exact.a + n * decoder.outputs;
  for (let i = 0; i < M; i++) rows(codeOf(n + i), decoder.input + i * decoder.width);
  decoder.forward(M, a);
  for (let i = 0; i < M; i++) exact.norms[n + i] = norms(a + i * decoder.outputs);
  exact.done = n + M;
  return exact.ready = exact.done === exact.count;
}

function decodeAll() {
  exact.done = 0;
  while (!decodeTile());
}

// Sum over the axes of values [K^D] of all latents but d, weighted by q [D, K]: the last ones first. d = -1: of all.
function expected(values, q, d) {
  let v = values;
  for (let axis = D - 1; axis > d; axis--) {
    const next = new Float64Array(v.length / K);
    for (let i = 0, n = 0; i < next.length; i++) {
      let sum = 0;
      for (let k = 0; k < K; k++, n++) sum += q[axis * K + k] * v[n];
      next[i] = sum;
    }
    v = next;
  }
  for (let axis = 0; axis < d; axis++) {
    const next = new Float64Array(v.length / K);
    for (let k = 0; k < K; k++) {
      const weight = q[axis * K + k], from = k * next.length;
      if (weight > 0) for (let i = 0; i < next.length; i++) next[i] += weight * v[from + i];
    }
    v = next;
  }
  return v;
}

function elbo(joint, q) {                       // E_q[log p(x, z)] + H(q)
  let entropy = 0;
  for (const p of q) if (p > 0) entropy -= p * Math.log(p);
  return expected(joint, q, -1)[0] + entropy;
}

// The best factorised q that coordinate ascent reaches from a start: log q_d = E_{others}[log p(x, z)] + const.
function ascended(joint, start, sweeps = 12) {
  const q = Float64Array.from(start);
  let last = elbo(joint, q);
  for (let n = 0; n < sweeps; n++) {
    for (let d = 0; d < D; d++) {
      q.set(expected(joint, q, d), d * K);
      softmax(q, d * K, (d + 1) * K);
    }
    const now = elbo(joint, q);
    if (now - last < 1e-4) return Math.max(now, last);
    last = now;
  }
  return last;
}

function posterior(x, q) {
  const joint = new Float64Array(exact.count), given = prepared(x);
  let top = 0, total = 0;
  for (let z = 0; z < exact.count; z++) {
    joint[z] = logLikelihood(given, exact.a + z * decoder.outputs, exact.norms[z]) + exact.logPrior[z];
    if (joint[z] > joint[top]) top = z;
  }
  const p = joint.map(value => Math.exp(value - joint[top]));
  for (const value of p) total += value;
  for (let z = 0; z < p.length; z++) p[z] /= total;
  const found = {joint, p, best: codeOf(top), logProb: joint[top] + Math.log(total), marginals: marginalsOf(p)};
  return q ? {...found, ...bounds(found, joint[top], q)} : found;
}

function marginalsOf(p) {                       // p(z_d = k | x), [D, K]
  const m = new Float64Array(D * K);
  for (let d = 0; d < D; d++) {
    const after = K ** (D - 1 - d);
    for (let z = 0, k = 0, n = 0; z < p.length; z++) {
      m[d * K + k] += p[z];
      if (++n === after) { n = 0; k = k + 1 === K ? 0 : k + 1; }
    }
  }
  return m;
}

// The encoder's bound and the best of its family: factorised q, or points where the latent is a quantiser.
function bounds({joint, marginals, best}, atBest, q) {
  const reached = elbo(joint, q.p);
  if (q.point) return {elbo: reached, family: atBest};
  const top = new Float64Array(D * K);
  best.forEach((k, d) => { top[d * K + k] = 1; });
  return {elbo: reached, family: Math.max(reached, ...[q.p, marginals, top].map(s => ascended(joint, s)))};
}

