// ---- test images to choose from, and images of z drawn from the prior ----
const SHOWN = 24;
const draws = {z: numbers(run.prior), next: 0};
draws.count = draws.z.length / D;

function buildImages() {
  const all = numbers(run.images);
  const buttons = Array.from({length: all.length / P}, (_, n) => {
    const x = all.slice(n * P, (n + 1) * P), canvas = blank();
    const name = `test image ${n + 1}` + (run.labels ? ` (${run.labels[n]})` : "");
    const button = make("button", {type: "button", class: "thumb", "aria-label": name, title: name}, canvas);
    button.addEventListener("click", () => { sheet.set(x); setImage(x, name); });
    return {x, name, canvas, button};
  });
  $("images").append(...buttons.map(b => b.button));
  renders.push(() => {
    for (const {name, button} of buttons) button.setAttribute("aria-pressed", name === state.source);
  });
  return {first: buttons[0], paint: () => buttons.forEach(({x, canvas}) => picture(canvas, x))};
}

function buildPrior() {
  const buttons = Array.from({length: Math.min(SHOWN, draws.count)}, (_, i) => {
    const button = make("button", {type: "button", class: "thumb"}, blank());
    button.addEventListener("click", () => setLatents(draws.shown[i]));
    return button;
  });
  $("prior").append(...buttons);
  const paint = () => {
    draws.shown = buttons.map((_, i) => {
      const n = (draws.next + i) % draws.count, z = draws.z.slice(n * D, (n + 1) * D);
      return discrete ? Uint32Array.from(z) : z;
    });
    decodeEach(draws.shown, (a, i) => picture(buttons[i].firstChild, means(a)));
    buttons.forEach((button, i) => {
      const name = `sample ${(draws.next + i) % draws.count + 1}` + (D <= 10 ? `, z ${named(draws.shown[i])}` : "");
      button.setAttribute("aria-label", name);
      button.title = name;
    });
  };
  $("more").addEventListener("click", () => { draws.next = (draws.next + buttons.length) % draws.count; paint(); });
  return {paint};
}

