// ---- the field to draw in: mouse, touch, pen, and keys ----
const sheet = new Float32Array(P);              // grey ink, before it is made 0 or 1
const pen = {erase: false, x: Math.floor(W / 2) + 0.5, y: Math.floor(H / 2) + 0.5, down: null, pointer: null};
const REACH = Math.max(0.6, Math.max(W, H) / 19);

function dab(x, y, erase) {
  for (let r = Math.max(0, Math.floor(y - REACH - 1)); r < Math.min(H, y + REACH + 1); r++)
    for (let c = Math.max(0, Math.floor(x - REACH - 1)); c < Math.min(W, x + REACH + 1); c++) {
      const ink = Math.min(Math.max(REACH + 0.5 - Math.hypot(c + 0.5 - x, r + 0.5 - y), 0), 1), p = r * W + c;
      sheet[p] = erase ? Math.min(sheet[p], 1 - ink) : Math.max(sheet[p], ink);
    }
}

function stroke(from, to, erase) {
  const steps = Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / 0.3) || 1;
  for (let n = 0; n <= steps; n++)
    dab(from.x + (to.x - from.x) * n / steps, from.y + (to.y - from.y) * n / steps, erase);
  drawn();
}

function drawn(source = "a drawing") {
  setImage(run.binary ? sheet.map(v => v >= 0.5 ? 1 : 0) : Float32Array.from(sheet), source);
}

function clearSheet() { sheet.fill(0); drawn("an empty field"); }

function centre() {                             // the centre of mass to the middle, as MNIST's images have it
  let mass = 0, x = 0, y = 0;
  sheet.forEach((v, p) => { mass += v; x += v * (p % W + 0.5); y += v * (Math.floor(p / W) + 0.5); });
  if (!mass) return;
  const dx = Math.round(x / mass - W / 2), dy = Math.round(y / mass - H / 2), old = Float32Array.from(sheet);
  sheet.forEach((_, p) => {
    const c = p % W + dx, r = Math.floor(p / W) + dy;
    sheet[p] = c >= 0 && c < W && r >= 0 && r < H ? old[r * W + c] : 0;
  });
  drawn();
}

function buildDrawing() {
  const field = $("input"), cursor = $("cursor");
  field.width = W;
  field.height = H;
  const at = event => {
    const box = field.getBoundingClientRect();
    return {x: (event.clientX - box.left) / box.width * W, y: (event.clientY - box.top) / box.height * H};
  };
  field.addEventListener("pointerdown", event => {
    if (event.button > 0 || pen.down) return;
    pen.pointer = event.pointerId;
    field.setPointerCapture(event.pointerId);
    cursor.hidden = true;
    pen.down = at(event);
    stroke(pen.down, pen.down, pen.erase);
  });
  field.addEventListener("pointermove", event => {
    if (!pen.down || event.pointerId !== pen.pointer) return;
    for (const part of event.getCoalescedEvents?.() ?? [event]) {
      const to = at(part);
      stroke(pen.down, to, pen.erase);
      pen.down = to;
    }
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"])
    field.addEventListener(end, event => { if (event.pointerId === pen.pointer) pen.down = null; });
  const place = () => {
    cursor.style.left = `${pen.x / W * 100}%`;
    cursor.style.top = `${pen.y / H * 100}%`;
  };
  const steps = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  field.addEventListener("keydown", event => {
    const step = steps[event.key], erase = event.key === "Backspace" || event.key === "Delete";
    if (step) {
      const from = {x: pen.x, y: pen.y};
      pen.x = Math.min(Math.max(pen.x + step[0], 0.5), W - 0.5);
      pen.y = Math.min(Math.max(pen.y + step[1], 0.5), H - 0.5);
      if (event.shiftKey) stroke(from, pen, pen.erase);
    } else if (event.key === " " || erase) stroke(pen, pen, erase || pen.erase);
    else return;
    event.preventDefault();
    cursor.hidden = false;
    place();
  });
  field.addEventListener("blur", () => { cursor.hidden = true; });
  place();
  cursor.style.width = `${2 * REACH / W * 100}%`;
  cursor.style.height = `${2 * REACH / H * 100}%`;
  $("clear").addEventListener("click", clearSheet);
  $("centre").addEventListener("click", centre);
  $("erase").addEventListener("click", () => {
    pen.erase = !pen.erase;
    $("erase").setAttribute("aria-pressed", pen.erase);
  });
}

