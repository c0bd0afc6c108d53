// ---- z as rows of the decoder's input, and the decoder ----
const discrete = K !== null;
const decoder = new MLP(run.decoder);
const rows = discrete ? codeRows(run.latent) : pointRows(run.latent);

function codeRows({base, tables, width, table, offset}) {   // base, with tables[table[d]][z_d] from offset[d] on
  const b = numbers(base), t = numbers(tables);
  return (z, at) => {
    heap.f.set(b, at);
    for (let d = 0; d < D; d++)
      for (let c = 0, q = (table[d] * K + z[d]) * width; c < width && offset[d] + c < b.length; c++)
        heap.f[at + offset[d] + c] += t[q + c];
  };
}

function pointRows({transform}) {
  const to = {none: v => v, exp: Math.exp, sigmoid: v => 1 / (1 + Math.exp(-v))}[transform];
  return (z, at) => { for (let d = 0; d < D; d++) heap.f[at + d] = to(z[d]); };
}

// The decoder's output at each z, a tile at a time: each(place of the outputs, index of z).
function decodeEach(zs, each) {
  for (let n = 0; n < zs.length; n += TILE) {
    const some = zs.slice(n, n + TILE);
    some.forEach((z, i) => rows(z, decoder.input + i * decoder.width));
    const a = decoder.forward(some.length);
    some.forEach((_, i) => each(a + i * decoder.outputs, n + i));
  }
}

const codeOf = index => Uint32Array.from({length: D}, (_, d) => Math.floor(index / K ** (D - 1 - d)) % K);
const indexOf = z => z.reduce((index, k) => index * K + k, 0);

