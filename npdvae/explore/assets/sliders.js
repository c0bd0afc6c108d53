// ---- continuous z: a slider for each latent, and on its track where q(z | x) is ----
const FIRST_SLIDERS = 24, STEPS = 9;            // sliders at once; pictures above each
const sliders = [];
const {low, high, logarithm, simplex} = run.latent;

const toZ = v => logarithm ? Math.log(Math.max(v, 1e-6)) : v;
const toShown = z => logarithm ? Math.exp(z) : z;
const fromShown = shown => Float32Array.from(shown, toZ);

function moved(z, d, v) {                       // z with latent d shown as v; on a simplex the rest in proportion
  const shown = Float64Array.from(z, toShown);
  if (simplex) {
    v = Math.min(Math.max(v, 1e-6), 1 - 1e-6);
    const rest = 1 - shown[d];
    shown.forEach((s, i) => { shown[i] = rest > 1e-9 ? s * (1 - v) / rest : (1 - v) / (D - 1); });
  }
  shown[d] = v;
  return fromShown(shown);
}

function buildSliders() {
  const place = v => `${100 * Math.min(Math.max((v - low) / (high - low), 0), 1)}%`;
  for (const d of run.latent.order) {
    const range = make("input", {type: "range", min: low, max: high, step: (high - low) / 500, id: `slider${d}`});
    const band = make("span", {class: "band"}), value = make("output", {for: `slider${d}`});
    const label = make("label", {for: `slider${d}`}, make("i", {}, "z"), make("sub", {}, d));
    const step = (high - low) / STEPS;
    const steps = Array.from({length: STEPS}, (_, i) => ({at: low + (i + 0.5) * step, canvas: blank()}));
    range.addEventListener("input", () => setLatents(moved(state.z, d, +range.value)));
    for (const {at, canvas} of steps) canvas.addEventListener("click", () => setLatents(moved(state.z, d, at)));
    const lane = make("div", {class: "lane"}, make("div", {class: "steps"}, ...steps.map(s => s.canvas)),
                      make("span", {class: "track"}, band, range));
    sliders.push({d, range, band, value, steps, row: make("div", {class: "slider"}, label, lane, value)});
  }
  const rows = sliders.map(s => s.row);
  $("code").classList.add("sliders");
  $("code").append(...rows.slice(0, FIRST_SLIDERS));
  if (rows.length > FIRST_SLIDERS) {
    const rest = make("details", {}, make("summary", {}, `${rows.length - FIRST_SLIDERS} more latents`),
                      make("div", {class: "sliders"}, ...rows.slice(FIRST_SLIDERS)));
    rest.addEventListener("toggle", changed);
    $("code").after(rest);
  }
  renders.push(() => {
    const open = sliders.filter(s => s.row.checkVisibility?.() ?? true)
      .flatMap(({d, steps}) => steps.map(one => ({d, ...one})));
    pixelsOf(open.map(({d, at}) => moved(state.z, d, at)), (pixels, i) => picture(open[i].canvas, pixels));
    for (const {d, range, band, value} of sliders) {
      const shown = toShown(state.z[d]), text = shown.toFixed(2).replace("-", "\u2212");
      range.value = shown;
      range.setAttribute("aria-valuetext", text);
      value.textContent = text;
      band.hidden = !state.q;
      if (!state.q) continue;
      band.style.left = place(state.q.low[d]);
      band.style.right = `calc(100% - ${place(state.q.high[d])})`;
    }
  });
}

