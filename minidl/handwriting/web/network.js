// The trained network, run on one image: each layer is a function from {shape, data} to {shape, data}.
// The formulas are those of minidl/ops*.py; sums are in double precision, as JavaScript has no other.

const volume = (shape) => shape.reduce((a, b) => a * b, 1);
const map = (x, f) => ({ shape: x.shape, data: Float64Array.from(x.data, f) });

const KINDS = {
  Linear(layer, x) {
    const [outputs, inputs] = layer.weight.shape, w = layer.weight.data, y = new Float64Array(outputs);
    for (let o = 0; o < outputs; o++) {
      let sum = layer.bias ? layer.bias.data[o] : 0;
      for (let i = 0, at = o * inputs; i < inputs; i++) sum += w[at + i] * x.data[i];
      y[o] = sum;
    }
    return { shape: [outputs], data: y };
  },
  Conv2d(layer, x) {
    const [filters, channels, kh, kw] = layer.weight.shape, w = layer.weight.data;
    return windows(x, [kh, kw], layer, filters, (f, at) => {
      let sum = layer.bias ? layer.bias.data[f] : 0;
      for (let c = 0; c < channels; c++) at(c, (value, i, j) => { sum += value * w[((f * channels + c) * kh + i) * kw + j]; });
      return sum;
    });
  },
  MaxPool2d(layer, x) {
    return windows(x, layer.size, layer, x.shape[0], (c, at) => {
      let largest = -Infinity;
      at(c, (value) => { largest = Math.max(largest, value); });
      return largest;
    });
  },
  AvgPool2d(layer, x) { // zeros of the padding count
    return windows(x, layer.size, layer, x.shape[0], (c, at) => {
      let sum = 0;
      at(c, (value) => { sum += value; });
      return sum / (layer.size[0] * layer.size[1]);
    });
  },
  BatchNorm1d: byChannel,
  BatchNorm2d: byChannel,
  Standardize: (layer, x) => map(x, (value, i) => (value - layer.mean.data[i]) / layer.std.data[i]),
  Dropout: (layer, x) => x, // active in training only
  Flatten: (layer, x) => ({ shape: [x.data.length], data: x.data }),
  ReLU: (layer, x) => map(x, (value) => Math.max(value, 0)),
  LeakyReLU: (layer, x) => map(x, (value) => (value > 0 ? value : layer.slope * value)),
  GELU: (layer, x) => map(x, layer.approximate === "tanh"
    ? (v) => v / 2 * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3)))
    : (v) => v / 2 * (1 + erf(v * Math.SQRT1_2))),
  Tanh: (layer, x) => map(x, Math.tanh),
  Sigmoid: (layer, x) => map(x, (value) => 1 / (1 + Math.exp(-value))),
  Softmax: (layer, x) => softmax(x),
};

// One output for each position of a window and each of `outputs`. at(c, see) calls see for each value in the window of
// channel c.
function windows(x, [kh, kw], { stride: [sh, sw], padding: [ph, pw] }, outputs, value) {
  const [, h, w] = x.shape, rows = Math.floor((h + 2 * ph - kh) / sh) + 1, columns = Math.floor((w + 2 * pw - kw) / sw) + 1;
  const y = new Float64Array(outputs * rows * columns);
  for (let o = 0, k = 0; o < outputs; o++)
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++, k++)
        y[k] = value(o, (channel, see) => {
          const top = r * sh - ph, left = c * sw - pw, start = channel * h * w;
          for (let i = Math.max(0, -top); i < kh && top + i < h; i++)
            for (let j = Math.max(0, -left); j < kw && left + j < w; j++) see(x.data[start + (top + i) * w + left + j], i, j);
        });
  return { shape: [outputs, rows, columns], data: y };
}

function byChannel(layer, x) { // batch norm in evaluation
  const each = x.data.length / x.shape[0];
  return map(x, (value, i) => value * layer.scale.data[Math.floor(i / each)] + layer.shift.data[Math.floor(i / each)]);
}

function softmax(x) {
  const largest = x.data.reduce((a, b) => Math.max(a, b), -Infinity), e = Float64Array.from(x.data, (v) => Math.exp(v - largest));
  const sum = e.reduce((a, b) => a + b, 0);
  return { shape: x.shape, data: e.map((v) => v / sum) };
}

function erf(x) { // Abramowitz & Stegun 7.1.26, within 1.5e-7
  const t = 1 / (1 + 0.3275911 * Math.abs(x));
  const y = 1 - ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t * Math.exp(-x * x);
  return x < 0 ? -y : y;
}

// A drawing (values from 0 to 1, row by row, ink 1) in the polarity of the run's training images.
function asLearned(run, pixels) {
  return Float64Array.from(pixels, (ink) => (run.darkOnLight ? 1 - ink : ink));
}

// The output of each layer for a drawing, and the class probabilities.
function forward(run, pixels) {
  let x = { shape: [1, ...run.size], data: asLearned(run, pixels) };
  const outputs = run.layers.map((layer) => (x = KINDS[layer.kind](layer, x)));
  return { outputs, probabilities: softmax(x).data };
}

// The runs of this page: base64 decoded to arrays.
function loadRuns(text) {
  const floats = (note) => {
    const bytes = Uint8Array.from(atob(note.float32), (c) => c.charCodeAt(0)), view = new DataView(bytes.buffer);
    const data = new Float32Array(bytes.length / 4);
    for (let i = 0; i < data.length; i++) data[i] = view.getFloat32(4 * i, true);
    return { shape: note.shape, data };
  };
  return JSON.parse(text, (key, value) => (value && value.float32 !== undefined ? floats(value) : value));
}
