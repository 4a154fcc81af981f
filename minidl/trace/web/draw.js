// Small helpers: elements, numbers as text, and images on a canvas.

function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (key in node) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// A name and its value, a node or several, in a list of facts; `props` are those of the value.
function fact(name, value, props = {}) {
  return el("div", {}, el("dt", {}, ...[name].flat()), el("dd", props, ...[value].flat()));
}

// A number with six digits, as nodes: 0.00123457, 1.23457·10⁻⁷.
const DIGITS = 6, POWER = /e(?=−?\d)/; // not the e of "not a number"
function number(value) {
  const text = digits(value, DIGITS), at = text.search(POWER);
  if (at < 0) return [text];
  return [`${text.slice(0, at)}·10`, el("sup", {}, text.slice(at + 1))];
}

function digits(value, n) {
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "not a number" : value > 0 ? "∞" : "−∞";
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return minus((value + 0).toLocaleString("en")); // no -0
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e7) {
    const [mantissa, exponent] = (Number(value.toExponential(n - 1)) === value ? value.toExponential() : value.toExponential(n - 1)).split("e");
    return minus(`${mantissa}e${Number(exponent)}`);
  }
  const text = value.toPrecision(n);
  return minus(text.includes("e") ? String(Math.round(value)) : Number(text) === value ? String(value) : text);
}

function short(value, n = 3) { // for labels: three digits, in plain text, in the notation of `number`
  const text = digits(value, n), at = text.search(POWER);
  return at < 0 ? text.replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "") : `${text.slice(0, at)}·10${raised(text.slice(at + 1))}`;
}

// An angle in degrees. Anything below a hundredth is rounding error.
function angle(degrees) { return `${short(Math.round(degrees * 100) / 100)}°`; }

function raised(exponent) { return [...exponent].map((c) => ({ "−": "⁻" })[c] || "⁰¹²³⁴⁵⁶⁷⁸⁹"[c]).join(""); }

function minus(text) { return text.replaceAll("-", "−"); }

// A percentage. A small share is not shown as 0.0%, nor an incomplete one as 100.0%.
function percent(share) {
  if (share > 0 && share < 0.0005) return "<0.1%";
  return share < 1 && share >= 0.9995 ? ">99.9%" : `${(100 * share).toFixed(1)}%`;
}

// ---- colours ----

function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim(); }
function rgb(name) {
  const hex = colour(name).slice(1);
  return [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

// From a number between -1 and 1 to a colour: blue below, the page's background at 0, red above.
function scale() {
  const [low, zero, high] = ["negative", "zero", "positive"].map(rgb), N = 128; // steps on either side
  const palette = Array.from({ length: 2 * N + 1 }, (_, k) => {
    const end = k < N ? low : high, t = (Math.abs(k - N) / N) ** 0.8;
    return zero.map((z, i) => Math.round(z + (end[i] - z) * t));
  });
  return (x) => palette[Math.round(N + N * Math.max(-1, Math.min(1, x)))];
}

// ---- images ----

// Draws `height` rows of values, each value a pixel of the canvas; CSS makes it larger, without smoothing.
function paint(canvas, values, width, height, toColour) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let i = 0, j = 0; i < Math.min(values.length, width * height); i++) {
    const shade = toColour(values[i]);
    image.data[j++] = shade[0];
    image.data[j++] = shade[1];
    image.data[j++] = shade[2];
    image.data[j++] = 255;
  }
  context.putImageData(image, 0, 0);
}

// Signed values by colour, the strongest for the largest magnitude; values that are not finite have a colour of their own.
// In an image of few values a dash marks the negative ones, for greyscale and for readers who can't tell red from blue.
const FEW = 600, CELL = 9;
function paintSigned(canvas, values, width, height, [low, high] = extent(values)) {
  const largest = Math.max(Math.abs(low), Math.abs(high)) || 1, map = scale(), lost = rgb("lost");
  const shade = (v) => (Number.isFinite(v) ? map(v / largest) : lost);
  if (width * height > FEW) return paint(canvas, values, width, height, shade);
  canvas.width = width * CELL;
  canvas.height = height * CELL;
  const context = canvas.getContext("2d"), mark = colour("text");
  for (let i = 0; i < Math.min(values.length, width * height); i++) {
    const x = (i % width) * CELL, y = Math.floor(i / width) * CELL;
    context.fillStyle = `rgb(${shade(values[i]).join(",")})`;
    context.fillRect(x, y, CELL, CELL);
    if (!(values[i] < -largest / 50)) continue;
    context.fillStyle = mark;
    context.fillRect(x + 3, y + 4, CELL - 6, 1);
  }
}

// What the colours mean, as a bar from the most negative to the most positive.
function legend() {
  const canvas = el("canvas", { className: "legend-bar", role: "img", "aria-label": "from blue (negative) through the background (zero) to red (positive)" });
  paintSigned(canvas, Float32Array.from({ length: 21 }, (_, i) => (i - 10) / 10), 21, 1);
  return el("p", { className: "legend hint" }, "negative ", canvas, " positive", el("span", {}, "; the strongest colour is the largest magnitude in an image, and a dash marks negative values"));
}

// Words with an explanation, shown on hover, on tap, and when they are focused with Tab.
function tip(words, explanation) {
  return el("span", { className: "tip", tabIndex: 0, title: explanation, "aria-label": `${words.textContent || words}: ${explanation}` }, words);
}

// keep.py's shades as values.
const SHADES = 64, LOST = 255;
function unshade({ pixels, low, high }) {
  return Float32Array.from(pixels, (p) => (p === LOST ? NaN : low + ((high - low) * p) / (SHADES - 1)));
}

// A digit, ink on paper.
function paintDigit(canvas, pixels, width, height) {
  const paper = rgb("paper"), ink = rgb("ink");
  const shades = Array.from({ length: 256 }, (_, p) => paper.map((a, i) => Math.round(a + ((ink[i] - a) * p) / 255)));
  paint(canvas, pixels, width, height, (p) => shades[p]);
}

// How to lay out n values that have no shape of their own.
function fold(n) {
  const width = n <= 16 ? n : Math.min(64, Math.ceil(Math.sqrt(n * 2) / 4) * 4);
  return [width, Math.ceil(n / width)];
}

// Maps side by side in one image, with gaps between them.
function sideBySide(values, n, height, width) {
  if (n === 1 && height === 1) {
    const [w, h] = fold(width);
    return { values, width: w, height: h };
  }
  const columns = Math.min(n, Math.max(1, Math.round(Math.sqrt(n * 2)))), rows = Math.ceil(n / columns);
  const W = columns * (width + 1) - 1, H = rows * (height + 1) - 1;
  const all = new Float32Array(W * H);
  for (let m = 0; m < n; m++) {
    const x0 = (m % columns) * (width + 1), y0 = Math.floor(m / columns) * (height + 1);
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) all[(y0 + y) * W + x0 + x] = values[(m * height + y) * width + x];
  }
  return { values: all, width: W, height: H };
}
