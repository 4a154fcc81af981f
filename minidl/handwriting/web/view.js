// What the page shows: the predictions, and the output of each layer. The elements are created once; a drawing repaints
// them.

const TOP = 6; // number of most active units or filters to show

function el(name, facts = {}, ...inside) {
  const { className, ...rest } = facts, made = document.createElement(name);
  if (className) made.className = className;
  for (const [key, value] of Object.entries(rest)) made.setAttribute(key, value);
  made.append(...inside);
  return made;
}

// ---- colours ----

// "#c2452d" as [194, 69, 45]
const rgb = (text) => [1, 3, 5].map((i) => parseInt(text.trim().slice(i, i + 2), 16));

function colours() {
  const style = getComputedStyle(document.documentElement);
  const [positive, negative, zero] = ["--positive", "--negative", "--zero"].map((name) => rgb(style.getPropertyValue(name)));
  // from -1 (blue) through 0 to 1 (red)
  return (v) => zero.map((z, k) => z + ((v < 0 ? negative : positive)[k] - z) * Math.min(1, Math.abs(v)));
}

// h rows of w values, each divided by `scale`, as pixels of a canvas.
function paintNumbers(canvas, data, h, w, scale, colour) {
  canvas.width = w;
  canvas.height = h;
  const context = canvas.getContext("2d"), image = context.createImageData(w, h);
  for (let i = 0; i < h * w; i++) {
    const [r, g, b] = i < data.length ? colour(scale ? data[i] / scale : 0) : [0, 0, 0];
    image.data.set([r, g, b, i < data.length ? 255 : 0], 4 * i);
  }
  context.putImageData(image, 0, 0);
}

const grey = (v) => { const g = 255 * Math.max(0, Math.min(1, v)); return [g, g, g]; };
const largest = (data) => data.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
const short = (v) => (Math.abs(v) >= 100 ? v.toFixed(0) : v.toFixed(2)).replace("-", "\u2212");

// ---- the prediction of one run ----

class Answer {
  constructor(run) {
    this.run = run;
    this.best = el("p", { className: "best", "aria-live": "polite", dir: "auto" });
    this.sure = el("p", { className: "sure" }, "waiting for a drawing");
    this.bars = run.classes.map((name) => ({ row: el("li"), bar: el("b"), number: el("span"), name }));
    for (const { row, bar, number, name } of this.bars) row.append(el("em", { style: "font-style: normal", dir: "auto" }, name), el("i", {}, bar), number);
    this.element = el("article", { className: "answer" }, el("h2", {}, run.title), el("p", { className: "about" }, run.about),
      this.best, this.sure, el("ol", { className: "bars" }, ...this.bars.map((each) => each.row)));
  }

  show(probabilities) {
    const order = probabilities ? [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]) : [];
    const name = order.length ? this.run.classes[order[0]] : "";
    this.best.textContent = name;
    this.best.classList.toggle("long", name.length > 3);
    this.sure.textContent = !order.length ? "waiting for a drawing" : percent(probabilities[order[0]]);
    if (order.length > 1) this.sure.append("; next ", el("bdi", {}, this.run.classes[order[1]]), `, ${percent(probabilities[order[1]])}`);
    this.bars.forEach(({ row, bar, number }, k) => {
      row.classList.toggle("first", order[0] === k);
      bar.style.width = `${100 * (order.length ? probabilities[k] : 0)}%`;
      number.textContent = order.length ? percent(probabilities[k]) : "";
    });
  }
}

const percent = (p) => `${(100 * p).toFixed(1)}%`;

// ---- the layers of one run ----

class Layer {
  constructor(run, layer, place) {
    Object.assign(this, { layer, maps: [], top: [] });
    const [channels] = layer.shape, isImage = layer.shape.length === 3;
    this.element = el("div", { className: "layer" }, el("h3", {}, `${layer.kind}(${layer.text}) `, el("span", { className: "shape" }, `output ${layer.shape.join("\u00d7")}`)));
    if (isImage) {
      this.maps = Array.from({ length: channels }, (_, c) => el("canvas", { className: "pixels", title: `channel ${c}` }));
      this.element.append(el("div", { className: "maps" }, ...this.maps));
    } else this.element.append(this.cells = el("canvas", { className: "cells pixels" }));
    this.filters = layer.kind === "Conv2d" ? layer.weight.shape.slice(2) : onImage(run, place) ? run.size : null;
    if (this.filters) this.addTop(Math.min(TOP, channels), isImage);
  }

  addTop(n, isImage) {
    this.top = Array.from({ length: n }, () => ({ filter: el("canvas", { className: "pixels" + (isImage ? "" : " wide") }), map: isImage && el("canvas", { className: "pixels" }), words: el("div") }));
    const words = isImage ? "Most active filters, each with its output" : "Most active units, each with its weights as an image";
    this.element.append(el("h4", {}, words), el("ol", { className: "top" }, ...this.top.map(({ filter, map, words }) => el("li", {}, filter, ...(map ? [" ", map] : []), words))));
  }

  show(output, colour) {
    const { shape, data } = output, scale = largest(data), [channels, h, w] = shape, each = shape.length === 3 ? h * w : 1;
    this.maps.forEach((canvas, c) => paintNumbers(canvas, data.subarray(c * each, (c + 1) * each), h, w, scale, colour));
    if (this.cells) {
      const columns = Math.min(data.length, data.length > 64 ? 32 : 16);
      paintNumbers(this.cells, data, Math.ceil(data.length / columns), columns, scale, colour);
    }
    const mean = (c) => data.subarray(c * each, (c + 1) * each).reduce((a, b) => a + Math.max(b, 0), 0) / each;
    const order = this.top.length ? Array.from({ length: channels }, (_, c) => c).sort((a, b) => mean(b) - mean(a)) : [];
    this.top.forEach(({ filter, map, words }, place) => {
      const c = order[place], [fh, fw] = this.filters, n = this.layer.weight.data.length / channels;
      const weights = meanOver(this.layer.weight.data.subarray(c * n, (c + 1) * n), fh * fw);
      paintNumbers(filter, weights, fh, fw, largest(weights), colour);
      if (map) paintNumbers(map, data.subarray(c * each, (c + 1) * each), h, w, scale, colour);
      words.textContent = `${map ? "filter" : "unit"} ${c}: ${short(map ? mean(c) : data[c])}`;
    });
  }
}

// A filter over several channels, as its mean over them.
function meanOver(weights, n) {
  const mean = new Float64Array(n), channels = weights.length / n;
  weights.forEach((v, i) => { mean[i % n] += v / channels; });
  return mean;
}

// Whether this is a Linear layer on the image itself, so that its weights can be shown as images.
function onImage(run, place) {
  const before = run.layers.slice(0, place).every((layer) => ["Flatten", "Standardize", "Dropout"].includes(layer.kind));
  return before && run.layers[place].kind === "Linear";
}

// ---- all of it ----

class Page {
  constructor(runs) {
    this.runs = runs;
    document.body.classList.toggle("two", runs.length > 1);
    document.body.style.setProperty("--runs", runs.length);
    this.answers = runs.map((run) => new Answer(run));
    document.getElementById("answers").replaceChildren(...this.answers.map((each) => each.element));
    const visible = (layer) => !["Flatten", "Dropout"].includes(layer.kind);
    this.layers = runs.map((run) => run.layers.map((layer, i) => (visible(layer) ? new Layer(run, layer, i) : null)));
    document.getElementById("networks").replaceChildren(...runs.map((run, r) => el("article", {}, el("h2", {}, `Layer outputs of ${run.title}`),
      el("p", { className: "about" }, el("span", { className: "key plus" }), " above 0, ", el("span", { className: "key minus" }), " below, strongest at the layer's largest absolute value"),
      ...this.layers[r].filter(Boolean).map((layer) => layer.element))));
    this.sheet = new Sheet(document.getElementById("sheet"), runs[0].size, runs[0].frame, (pixels) => this.soon(pixels));
    document.getElementById("clear").onclick = () => this.sheet.clear();
    document.getElementById("undo").onclick = () => this.sheet.undo();
    window.addEventListener("resize", () => this.sheet.redraw());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.sheet.redraw());
    document.getElementById("seen-words").textContent = `what the network sees: ${runs[0].size.join("\u00d7")}`;
    this.sheet.redraw();
  }

  // At most once per animation frame.
  soon(pixels) {
    if (this.waiting === undefined) requestAnimationFrame(() => { const latest = this.waiting; this.waiting = undefined; this.show(latest); });
    this.waiting = pixels;
  }

  // Show predictions and layers for an image; null: nothing is drawn. Returns each run's results.
  show(pixels) {
    const [h, w] = this.runs[0].size, colour = colours();
    document.getElementById("hint").hidden = this.sheet.strokes.length > 0;
    paintNumbers(document.getElementById("seen"), asLearned(this.runs[0], pixels || new Float64Array(h * w)), h, w, 1, grey);
    return this.runs.map((run, r) => {
      const result = forward(run, pixels || new Float64Array(h * w));
      this.answers[r].show(pixels && result.probabilities);
      this.layers[r].forEach((layer, i) => layer && layer.show(pixels ? result.outputs[i] : { ...result.outputs[i], data: result.outputs[i].data.map(() => 0) }, colour));
      return result;
    });
  }
}

window.page = new Page(loadRuns(document.getElementById("runs").textContent));
