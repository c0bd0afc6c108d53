// ---- pixels as ink on paper, in the colours of the theme ----
const inks = new Uint32Array(256);

function mixInks() {
  const read = name => getComputedStyle(document.documentElement).getPropertyValue(name).match(/\w\w/g)
    .map(part => parseInt(part, 16));
  const paper = read("--paper"), ink = read("--ink");
  const bytes = new Uint8ClampedArray(inks.buffer);
  for (let v = 0; v < 256; v++) {
    for (let c = 0; c < 3; c++) bytes[4 * v + c] = paper[c] + (ink[c] - paper[c]) * v / 255;
    bytes[4 * v + 3] = 255;
  }
}

function picture(canvas, values) {              // [P], 0 to 1
  const context = canvas.getContext("2d"), image = context.createImageData(W, H);
  const out = new Uint32Array(image.data.buffer);
  for (let p = 0; p < P; p++) out[p] = inks[Math.round(255 * Math.min(Math.max(values[p], 0), 1))];
  context.putImageData(image, 0, 0);
}

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const $ = id => document.getElementById(id);
const blank = () => make("canvas", {width: W, height: H, "aria-hidden": "true"});
const nats = v => v.toFixed(2).replace("-", "\u2212");
const percent = p => p >= 0.995 && p < 1 ? ">99 %" : p < 0.005 && p > 0 ? "<1 %" : `${Math.round(100 * p)} %`;
const named = z => Array.from(z, v => discrete ? v : v.toFixed(2).replace("-", "\u2212")).join(" ");

