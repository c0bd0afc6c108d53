// ---- what the page shows now; every change goes through changed(), which draws once a frame ----
const state = {
  x: new Float32Array(P), source: "",           // the image as the model reads it, and where it comes from
  q: null, exact: null,                         // q(z | x) and the exact posterior of x
  z: null, follow: "q",                         // z, and what chooses it: "q", "p" or "hand"
  stale: true, waiting: false,
};

function refresh() {
  if (state.stale) {
    state.stale = false;
    state.q = encode(state.x);
    state.exact = exact && exact.ready ? posterior(state.x, state.q) : null;
  }
  if (state.follow === "p" && state.exact) state.z = state.exact.best;
  if (state.follow === "q" && state.q) state.z = state.q.p ? modeOf(state.q.p) : fromShown(state.q.mode);
  for (const render of renders) render();
}

const renders = [];                             // of each part of the page, in order

function changed() {
  if (state.waiting) return;
  state.waiting = true;
  requestAnimationFrame(() => { state.waiting = false; refresh(); });
}

function setImage(x, source) {
  Object.assign(state, {x, source, stale: true});
  if (state.follow === "hand" && encoder) state.follow = "q";
  changed();
}

function setLatents(z) {
  Object.assign(state, {z, follow: "hand"});
  changed();
}

function pixelsAt(z) {                          // E[x | z] [P] of one z
  if (exact && exact.ready) return means(exact.a + indexOf(z) * decoder.outputs);
  let found;
  decodeEach([z], a => { found = means(a); });
  return found;
}

function pixelsOf(zs, each) {                   // the same of many: each(pixels, index)
  if (exact && exact.ready) zs.forEach((z, i) => each(pixelsAt(z), i));
  else decodeEach(zs, (a, i) => each(means(a), i));
}

