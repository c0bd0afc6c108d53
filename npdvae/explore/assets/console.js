// ---- for the console, and for tests: z as Run.decode takes them, x [P] in; probabilities and nats out ----
const plainly = value => ArrayBuffer.isView(value) ? Array.from(value) : value;

window.explorer = {
  run, state, exact, decodeAll, simd: Boolean(wasm),

  decode(z) {                                   // E[x | z], [P]
    let found;
    decodeEach([discrete ? Uint32Array.from(z) : Float32Array.from(z)], a => { found = means(a); });
    return Array.from(found);
  },

  encode(x) {                                   // q(z | x)
    const q = encode(Float32Array.from(x));
    return q && Object.fromEntries(Object.entries(q).map(([name, value]) => [name, plainly(value)]));
  },

  posterior(x) {                                // of every code, of every category, and the bounds
    const at = Float32Array.from(x), {p, marginals, logProb, elbo, family} = posterior(at, encode(at));
    return {p: Array.from(p), marginals: Array.from(marginals), logProb, elbo, family};
  },

  update(x) {                                   // all that a stroke causes, at once: q, posterior, every picture
    Object.assign(state, {x: Float32Array.from(x), stale: true});
    refresh();
  },
};

