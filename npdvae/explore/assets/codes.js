// ---- the code: categories of each latent as pictures of what they would show; below each, q and the posterior ----
const MOST_CELLS = 640, MOST_SHOWN = 256;       // above the first, one latent at a time; above the second, in pages
const grid = {cells: [], all: discrete && D * K <= MOST_CELLS && K <= MOST_SHOWN, latent: 0, first: 0};

function buildCodes() {
  if (!grid.all) {
    const which = make("select", {"aria-label": "Latent"}), part = make("select", {"aria-label": "Categories"});
    for (let d = 0; d < D; d++) which.append(make("option", {value: d}, `Latent ${d}, of ${D}`));
    for (let k = 0; k < K; k += MOST_SHOWN)
      part.append(make("option", {value: k}, `Categories ${k} to ${Math.min(k + MOST_SHOWN, K) - 1}`));
    const choose = () => {
      Object.assign(grid, {latent: +which.value, first: +part.value});
      buildCells();
      changed();
    };
    for (const list of [which, part]) list.addEventListener("change", choose);
    $("choose").append(which, ...K > MOST_SHOWN ? [part] : []);
  }
  buildCells();
  renders.push(renderCodes);
}

function buildCells() {
  const shown = grid.all ? Array.from({length: D}, (_, d) => d) : [grid.latent];
  grid.cells = [];
  $("code").replaceChildren(...shown.map(d => {
    const cells = make("div", {class: "cells"});
    for (let k = grid.first; k < K && within(k); k++) cells.append(cell(d, k));
    const name = make("span", {class: "name", "aria-hidden": "true"}, make("i", {}, "z"), make("sub", {}, d));
    return make("div", {class: "latent", role: "radiogroup", "aria-label": `Latent ${d}`}, name, cells);
  }));
  const wide = Math.min(K, MOST_SHOWN);
  $("code").classList.toggle("dense", wide > 12);
  $("code").style.setProperty("--columns", wide <= 12 ? wide : wide <= 32 ? 16 : 20);
}

function cell(d, k) {
  const canvas = blank(), q = make("i", {class: "q"}), p = make("i", {class: "p"});
  const button = make("button", {type: "button", role: "radio", class: "cell", "data-at": `${d} ${k}`}, canvas,
                      make("span", {class: "bars"}, q, p), make("span", {class: "number"}, k));
  button.addEventListener("click", () => choose(d, k));
  button.addEventListener("keydown", event => {
    const step = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[event.key];
    if (!step) return;
    event.preventDefault();
    const next = step[0] ? d + step[0] : d, category = step[0] ? state.z[next] : (k + step[1] + K) % K;
    if (step[1]) choose(d, category);
    document.querySelector(`[data-at="${next} ${category}"]`)?.focus();
  });
  grid.cells.push({d, k, canvas, q, p, button});
  return button;
}

function choose(d, k) {
  const z = Uint32Array.from(state.z);
  z[d] = k;
  setLatents(z);
}

const within = k => k >= grid.first && k < grid.first + MOST_SHOWN;       // the page shown

function renderCodes() {
  const {z, q} = state, marginals = state.exact?.marginals;
  const zs = grid.cells.map(({d, k}) => { const other = Uint32Array.from(z); other[d] = k; return other; });
  pixelsOf(zs, (pixels, i) => picture(grid.cells[i].canvas, pixels));
  grid.cells.forEach(({d, k, button, ...bars}) => {
    const chosen = z[d] === k, at = d * K + k;
    bars.q.style.width = `${q ? 100 * q.p[at] : 0}%`;
    bars.p.style.width = `${marginals ? 100 * marginals[at] : 0}%`;
    const told = [`category ${k}`, ...q ? [`encoder ${percent(q.p[at])}`] : [],
                  ...marginals ? [`posterior ${percent(marginals[at])}`] : []].join(", ");
    button.setAttribute("aria-checked", chosen);
    button.setAttribute("aria-label", told);
    button.title = told;
    button.tabIndex = chosen || (!within(z[d]) && k === grid.first) ? 0 : -1;
  });
}

