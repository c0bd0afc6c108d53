// ---- log p(x), the bounds below it and their gaps; the most probable codes; a text for screen readers ----
const LISTED = 8;

function buildBounds() {
  $("likely").append(...Array.from({length: exact ? Math.min(LISTED, exact.count) : 0}, (_, i) => {
    const button = make("button", {type: "button", class: "code"}, blank(), make("span", {class: "digits"}),
                        make("span", {class: "bars"}, make("i", {class: "q"}), make("i", {class: "p"})),
                        make("span", {class: "share"}));
    button.addEventListener("click", () => setLatents(Uint32Array.from(state.listed[i])));
    return make("li", {}, button);
  }));
  renders.push(renderBounds, renderLikely, tell);
}

function likelihoodAt(z) {                            // log p(x | z)
  const given = prepared(state.x);
  if (exact && exact.ready) {
    const n = indexOf(z);
    return logLikelihood(given, exact.a + n * decoder.outputs, exact.norms[n]);
  }
  let found;
  decodeEach([z], a => { found = logLikelihood(given, a, norms(a)); });
  return found;
}

const priorRows = run.latent.log_prior ? numbers(run.latent.log_prior) : null;

function logPrior(z) {                          // log p(z) of a code; null where the page does not have it
  if (exact) return exact.logPrior[indexOf(z)];
  return priorRows && z.reduce((sum, k, d) => sum + priorRows[d * K + k], 0);
}

function line(name, value, gap = 0, what = "", scale = 1) {
  const bar = make("i", {class: `gap ${what}`});
  bar.style.width = `${Math.min(100 * gap / scale, 100)}%`;
  return make("tr", {}, make("th", {scope: "row"}, ...name), make("td", {class: "n"}, nats(value)),
              make("td", {class: "how"}, ...what ? [make("span", {class: "rail"}, bar), `${nats(gap)} ${what}`] : []));
}

const formula = text => text.split(/(?<!’)(\b[a-z]\b)/).map((part, i) => i % 2 ? make("i", {}, part) : part);

function renderBounds() {
  const found = state.exact, rowsOf = [];
  if (found) {
    rowsOf.push(line(formula("log p(x), exact"), found.logProb));
    if (found.elbo !== undefined) {
      const family = state.q.point ? "best single code" : "best factorised q", {logProb, elbo} = found;
      const scale = Math.max(5, 1.05 * (logProb - elbo));
      const to = logProb - found.family, rest = found.family - elbo;
      rowsOf.push(line(formula(family), found.family, Math.max(to, 0), "approximation", scale),
                  line(formula("encoder’s q(z | x)"), elbo, Math.max(rest, 0), "amortisation", scale));
    }
  }
  const given = likelihoodAt(state.z), prior = discrete ? logPrior(state.z) : null;
  rowsOf.push(line(formula("log p(x | z), this z"), given));
  if (prior !== null) rowsOf.push(line(formula("log p(x, z), this z"), given + prior));
  $("bounds").replaceChildren(make("tbody", {}, ...rowsOf));
}

function mostProbable(p, n) {                   // indices of the n largest, in order
  const best = [];
  p.forEach((value, z) => {
    if (best.length === n && value <= p[best[n - 1]]) return;
    let at = best.length;
    while (at && p[best[at - 1]] < value) at--;
    best.splice(at, 0, z);
    if (best.length > n) best.pop();
  });
  return best;
}

function renderLikely() {
  $("likely").hidden = !state.exact;
  if (!state.exact) return;
  const {p} = state.exact, q = state.q?.p, best = mostProbable(p, LISTED);
  state.listed = best.map(codeOf);
  [...$("likely").children].forEach((item, i) => {
    const z = state.listed[i], button = item.firstChild, [canvas, digits, bars, share] = button.children;
    const under = q ? z.reduce((product, k, d) => product * q[d * K + k], 1) : 0;
    picture(canvas, pixelsAt(z));
    digits.textContent = D <= 10 ? named(z) : "";
    share.textContent = percent(p[best[i]]);
    bars.children[0].style.width = `${100 * under}%`;
    bars.children[1].style.width = `${100 * p[best[i]]}%`;
    const told = `code ${named(z)}: posterior ${percent(p[best[i]])}${q ? `, encoder ${percent(under)}` : ""}`;
    button.setAttribute("aria-label", told);
    button.title = told;
  });
}

let telling;
function tell() {                               // once nothing has moved for a moment
  clearTimeout(telling);
  telling = setTimeout(() => {
    const {source, z, exact: found} = state;
    const parts = [`The image is ${source}.`, `z is ${D <= 20 ? named(z) : `${D} numbers`}.`];
    if (found) parts.push(`log p of x is ${nats(found.logProb)} nats.`);
    if (found?.elbo !== undefined) parts.push(`The encoder's bound is ${nats(found.elbo)}.`,
                                              `Its gap is ${nats(found.logProb - found.elbo)} nats.`);
    $("spoken").textContent = parts.join(" ");
  }, 600);
}

