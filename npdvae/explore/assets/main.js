// ---- the whole: follow q, the posterior or the hand; themes; codes decoded a tile at a time at the start ----
function buildFollow() {
  const choices = {q: encoder, p: exact, hand: true};
  for (const [name, there] of Object.entries(choices)) {
    const radio = $(`follow-${name}`);
    radio.parentElement.hidden = !there;
    radio.addEventListener("change", () => { state.follow = name; changed(); });
  }
  renders.push(() => {
    $(`follow-${state.follow}`).checked = true;
    picture($("input"), state.x);
    picture($("output"), pixelsAt(state.z));
    $("output").setAttribute("aria-label", `Reconstruction of z = ${D <= 20 ? named(state.z) : `${D} numbers`}`);
    $("source").textContent = state.source;
    $("at").textContent = discrete && D <= 8 ? `, code ${named(state.z)}` : "";
  });
}

function buildTheme(paint) {
  const dark = matchMedia("(prefers-color-scheme: dark)"), root = document.documentElement;
  const is = () => root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
  const repaint = () => {
    $("theme").textContent = is() ? "Light" : "Dark";
    mixInks();
    paint.forEach(part => part.paint());
    changed();
  };
  dark.addEventListener("change", repaint);
  $("theme").addEventListener("click", () => { root.dataset.theme = is() ? "light" : "dark"; repaint(); });
  repaint();
}

function start() {
  $("facts").replaceChildren(...run.facts.map(fact => make("li", {}, fact)));
  $("notes").replaceChildren(...run.notes.map(note => make("p", {}, note)));
  $("output").width = W;
  $("output").height = H;
  document.body.classList.toggle("has-codes", Boolean(exact));
  buildDrawing();
  buildFollow();
  const images = buildImages(), prior = buildPrior();
  (discrete ? buildCodes : buildSliders)();
  buildBounds();
  const first = draws.z.slice(0, D);
  state.z = discrete ? Uint32Array.from(first) : first;
  if (!encoder) state.follow = "hand";
  sheet.set(images.first.x);
  setImage(images.first.x, images.first.name);
  buildTheme([images, prior]);
  if (exact) enumerate();
  else document.body.dataset.ready = "";
}

function enumerate() {                          // between frames, so that the page answers meanwhile
  const until = performance.now() + 12;
  while (!exact.ready && performance.now() < until) decodeTile();
  $("progress").textContent = exact.ready ? "" : `Decoding ${exact.count} codes: ${exact.done}`;
  if (!exact.ready) return void setTimeout(enumerate);
  state.stale = true;
  changed();
  document.body.dataset.ready = "";
}

start();
