"use strict";
// ---- what the page holds: the run as JSON, its arrays as base64 of little-endian numbers ----
const run = JSON.parse(document.getElementById("run").textContent);
const [H, W] = run.shape, P = H * W, D = run.latent.latents, K = run.latent.categories;
const TYPES = {f4: Float32Array, i4: Int32Array, u1: Uint8Array};

function numbers(blob) {
  const text = atob(blob.data), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new TYPES[blob.type](bytes.buffer);
}

