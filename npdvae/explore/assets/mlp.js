// ---- multilayer perceptrons, a tile of rows at a time ----
const TILE = 256;
const SLOPE = {relu: 0, leaky_relu: 0.01, tanh: 1};

class Layer {
  constructor({weight, bias}, slope) {
    const [K, N] = weight.shape, w = numbers(weight);
    this.inputs = up(K, 8);
    this.outputs = up(N, 8);
    this.slope = slope;
    this.w = alloc(this.inputs * this.outputs);
    this.b = alloc(this.outputs);
    for (let k = 0; k < K; k++)
      for (let j = 0; j < N; j++)
        heap.f[this.w + (j >> 3) * this.inputs * 8 + k * 8 + (j & 7)] = w[k * N + j];
    heap.f.set(numbers(bias), this.b);
  }
}

class MLP {
  constructor({activation, layers}) {
    this.tanh = activation === "tanh";
    this.layers = layers.map((layer, i) => new Layer(layer, i < layers.length - 1 ? SLOPE[activation] : 1));
    this.width = this.layers[0].inputs;         // of a row of inputs, zero beyond the features
    this.outputs = this.layers.at(-1).outputs;
    this.places = this.layers.map(layer => alloc(TILE * layer.inputs));
    this.result = alloc(TILE * this.outputs);
    this.input = this.places[0];
  }

  forward(M, result = this.result) {            // of the first M rows at this.input; result has room for M in fours
    this.layers.forEach((layer, i) => {
      const last = i === this.layers.length - 1, y = last ? result : this.places[i + 1];
      linear(this.places[i], layer.w, layer.b, y, up(M, 4), layer.inputs, layer.outputs, layer.slope);
      if (this.tanh && !last)
        for (let n = y; n < y + M * layer.outputs; n++) heap.f[n] = Math.tanh(heap.f[n]);
    });
    return result;
  }
}

