// The network: its layers in order, forward and back, and what the chosen layer holds at this step.

// The stages of a step: the input, forward through the layers to the loss, back again, and the update.
function stages(run) {
  const n = run.layers.length;
  const forward = run.layers.map((layer, i) => ({ way: "forward", layer: i, words: `forward, layer ${i + 1} of ${n}: ${layer.kind}` }));
  const backward = [...forward.keys()].reverse().map((i) => ({ way: "backward", layer: i, words: `backward, layer ${i + 1} of ${n}: ${run.layers[i].kind}` }));
  return [
    { way: "forward", layer: -1, words: "the minibatch enters" },
    ...forward,
    { way: "backward", layer: n, words: "the loss compares the outputs with the labels; its gradient starts back" },
    ...backward,
    { way: "update", layer: -1, words: "the optimizer moves every weight by its step p" },
  ];
}

const DEAD = "A ReLU unit that is 0 for every image of the minibatch gets no gradient: it learns nothing from this step.";

function shapeOf(layer) { return layer.shape.join("×") || "1"; }
function size(shape) { return shape.reduce((a, b) => a * b, 1); }

// The layers as a list of buttons, the chosen one and the one at the stage marked.
function graph(run, state, act) {
  const stage = stages(run)[state.stage];
  const box = (i, kind, shape, title) => {
    const reached = stage.layer === i, chosen = state.layer === i;
    const button = el("button", { type: "button", className: `layer ${reached ? stage.way : ""} ${chosen ? "chosen" : ""}`, title, onclick: () => act.layer(i) },
      el("b", {}, kind), el("span", {}, shape));
    button.setAttribute("aria-pressed", chosen);
    return el("li", {}, i >= 0 && i < run.layers.length ? button : el("span", { className: `layer end ${reached ? stage.way : ""}` }, el("b", {}, kind), el("span", {}, shape)));
  };
  const layers = run.layers.map((layer, i) => box(i, layer.kind, shapeOf(layer), `${layer.name} ${layer.kind}(${layer.arguments})`));
  const called = (i) => (run.layers[i].called || []).map((name) => el("li", {}, el("span", { className: "layer end called", title: `${name}: called as a function, not a layer of the model` }, el("b", {}, name), el("span", {}, "()"))));
  const ends = [box(stage.way === "forward" && stage.layer < 0 ? -1 : -2, "input", ["1", ...run.image].join("×"), ""), box(run.layers.length, "loss", "1", "")];
  return el("ol", { className: `graph ${stage.way}` }, ends[0], ...layers.flatMap((layer, i) => [...called(i), layer]), ends[1]);
}

function networkPanel(run, state, act) {
  const frame = run.nearest(state.step, (f) => f.layers.length);
  const all = stages(run);
  const walk = el("div", { className: "walk" },
    el("button", { type: "button", onclick: () => act.stage(-1), title: "Previous stage (K)", "aria-label": "Previous stage" }, "‹"),
    el("button", { type: "button", onclick: () => act.stage(1), title: "Next stage (J)", "aria-label": "Next stage" }, "›"),
    el("span", {}, tip("stage", "A step consists of the forward pass through the layers, the loss, the backward pass, and the update. J and K move through them."), ` ${state.stage + 1} of ${all.length}: ${all[state.stage].words}`));
  return el("section", { className: "network" }, el("h3", {}, "The network"), walk, graph(run, state, act), legend(),
    frame ? layerPanel(run, frame, state, act) : el("p", { className: "notice" }, "No step of this run was recorded in full."));
}

// Output, gradient and weights of the chosen layer.
function layerPanel(run, frame, state, act) {
  const layer = run.layers[state.layer], seen = frame.layers[state.layer];
  const parts = [el("h4", {}, `${layer.name || "model"}: ${layer.kind}(${layer.arguments})`, el("small", {}, ` ${shapeOf(layer)} per example`))];
  if (frame.step !== run.frame(state.step).step) parts.push(el("p", { className: "notice" }, `Images of step ${frame.step.toLocaleString("en")}, the nearest earlier one that has them.`));
  if (!seen) return el("div", { className: "layer-panel" }, ...parts, el("p", { className: "notice" }, "The step ended before this layer."));
  const way = stages(run)[state.stage].way, cards = [layerCard("Output", layer, seen.output, way === "forward")];
  if (seen.gradient) cards.push(layerCard("Gradient of the loss w.r.t. this output", layer, seen.gradient, way === "backward"));
  if (seen.dead !== null) {
    const units = layer.shape[0], what = layer.shape.length > 1 ? "channels" : "units";
    parts.push(el("p", { className: "dead" }, el("b", {}, `${seen.dead} of ${units} ${what}`), " are ", tip("dead", DEAD), " at this step: zero for the whole minibatch."));
  }
  for (const name of Object.keys(layer.parameters)) cards.push(...weightCards(run, frame, name, state, act, way === "update"));
  parts.push(el("div", { className: "cards" }, ...cards));
  return el("div", { className: "layer-panel" }, ...parts);
}

function layerCard(title, layer, { picture: shown, histogram }, lit) {
  const words = `${layer.kind}: ${title} for the worst example, from ${short(shown.low)} to ${short(shown.high)}`;
  const canvas = el("canvas", { className: "picture", role: "img", "aria-label": words });
  const [n, h, w] = shown.pixels.shape, laid = sideBySide(unshade(shown), n, h, w);
  paintSigned(canvas, laid.values, laid.width, laid.height);
  canvas.style.setProperty("--ratio", laid.width / laid.height);
  const maps = layer.shape.length > 1 && n < layer.shape[0] ? `, ${n} of ${layer.shape[0]} channels` : "";
  const zeros = histogram.zero > 0.005 ? `; ${percent(histogram.zero)} zeros, not in the bars` : "", lost = histogram.lost ? `; ${percent(histogram.lost)} not finite` : "";
  return el("div", { className: `card ${lit ? "lit" : ""}` }, el("h5", {}, title), canvas,
    el("p", { className: "hint" }, `worst example${maps}`), bars(histogram, title), el("p", { className: "hint" }, `whole minibatch${zeros}${lost}`));
}

const SAMPLE = 4096; // keep.py's: the values that a histogram is made of

// The weights of one parameter that are under the lens, and their gradients; a click chooses one.
function weightCards(run, frame, name, state, act, lit) {
  const grid = run.weights.find((g) => g.name === name), i = run.weights.indexOf(grid);
  const terms = (run.nearest(state.step, (f) => f.terms.length) || { terms: [] }).terms;
  return [["weight", "w", "Weights"], ["gradient", "g", "Gradient w.r.t."]].map(([key, symbol, title]) => {
    const term = terms.find((t) => t.symbol === symbol), histogram = frame.weights[i][key];
    const card = el("div", { className: `card ${lit ? "lit" : ""}` }, el("h5", {}, `${title} ${name}`));
    if (term) {
      card.append(weightGrid(run, grid, term.value, state, act, `${title} ${name}`));
      const part = grid.count < size(grid.shape) ? `${grid.count} of ${size(grid.shape).toLocaleString("en")}` : `all ${grid.count}`;
      card.append(el("p", { className: "hint" }, `${part} (${grid.shape.join("×")}); click one`));
    }
    if (histogram) card.append(bars(histogram, `${title} ${name}`), el("p", { className: "hint" }, `${size(grid.shape) > SAMPLE ? `${SAMPLE.toLocaleString("en")} of` : "all"} ${size(grid.shape).toLocaleString("en")}`));
    return card;
  });
}

function weightGrid(run, grid, values, state, act, label) {
  const rows = grid.outputs.length, columns = grid.inputs.length, own = values.subarray(grid.at, grid.at + grid.count);
  const [width, height] = columns === 1 ? [rows, 1] : [columns, rows];
  const words = `${label}: ${rows} by ${columns}; arrow keys choose a weight`;
  const canvas = el("canvas", { className: "picture pick", tabIndex: 0, role: "img", "aria-label": words });
  paintSigned(canvas, own, width, height);
  canvas.style.setProperty("--ratio", width / height);
  const inside = state.weight >= grid.at && state.weight < grid.at + grid.count ? state.weight - grid.at : -1;
  const choose = (k) => act.weight(grid.at + Math.max(0, Math.min(grid.count - 1, k)));
  canvas.onclick = (event) => {
    const [x, y] = within(canvas, event), column = Math.floor(x * width), row = Math.floor(y * height);
    choose(Math.min(height - 1, Math.max(0, row)) * width + Math.min(width - 1, Math.max(0, column)));
  };
  canvas.onkeydown = (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -width, ArrowDown: width }[event.key];
    if (move === undefined || event.shiftKey) return;
    event.preventDefault();
    event.stopPropagation();
    choose(inside < 0 ? 0 : inside + move);
  };
  const frame = el("div", { className: "pick-frame" }, canvas);
  if (inside >= 0) frame.append(marker((inside % width) / width, Math.floor(inside / width) / height, 1 / width, 1 / height));
  return frame;
}

// Where in a canvas an event is, in shares of its width and height. Safari gives the place on the page, not on the screen, of
// what a lecture enlarges as if it were not; its section always fills the one around it.
function within(canvas, event) {
  const box = canvas.getBoundingClientRect(), section = canvas.closest("section");
  const times = section.parentNode.getBoundingClientRect().width / section.getBoundingClientRect().width;
  return [(event.pageX / times - scrollX - box.left) / box.width, (event.pageY / times - scrollY - box.top) / box.height];
}

function marker(left, top, width, height) {
  const node = el("span", { className: "marker" });
  Object.assign(node.style, { left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * width}%`, height: `${100 * height}%` });
  return node;
}

// The first layer's units as images of their weights. A pixel whose weight is under the lens can be clicked.
function filterPanel(run, state, act) {
  const frame = run.nearest(state.step, (f) => f.filters);
  if (!frame) return null;
  const [n, h, w] = frame.filters.pixels.shape, values = unshade(frame.filters), grid = run.weights[0];
  const every = new Map([...grid.inputs].map((input, k) => [input, k])), area = h * w;
  const few = every.size < area, { low, high } = frame.filters;
  const filters = Array.from({ length: n }, (_, unit) => {
    const canvas = el("canvas", { className: "filter", role: "img", "aria-label": `filter of unit ${grid.outputs[unit]}` });
    paintSigned(canvas, values.subarray(unit * area, (unit + 1) * area), w, h, [low, high]);
    canvas.onclick = (event) => {
      const [across, down] = within(canvas, event), x = across * w, y = down * h;
      let best = -1, nearest = Infinity;
      for (const [input, k] of every) {
        if (input >= area) continue;
        const distance = Math.hypot((input % w) + 0.5 - x, Math.floor(input / w) + 0.5 - y);
        if (distance < nearest) [best, nearest] = [k, distance];
      }
      if (best >= 0) act.weight(grid.at + unit * grid.inputs.length + best);
    };
    const box = el("div", { className: "pick-frame" }, canvas);
    const { grid: g, index } = run.weight(state.weight);
    if (g === grid && index[0] === grid.outputs[unit]) {
      const k = grid.inputs[(state.weight - grid.at) % grid.inputs.length] % area;
      box.append(marker((k % w) / w, Math.floor(k / w) / h, 1 / w, 1 / h));
    }
    return el("figure", { className: "filter-box" }, box, el("figcaption", {}, `${grid.outputs[unit]}`));
  });
  const words = few
    ? `${n} of ${grid.shape[0]} units; of each, ${grid.inputs.length} of the ${area} pixels are under the lens: a click picks the nearest.`
    : `${n} of ${grid.shape[0]} filters; click a pixel to put its weight under the lens.`;
  return el("section", { className: "filters" }, el("h3", {}, "First-layer filters"), el("p", { className: "hint" }, words), el("div", { className: "filter-row" }, ...filters));
}

// The minibatch, the worst example first.
function batchPanel(run, state) {
  const frame = run.nearest(state.step, (f) => f.batch);
  if (!frame) return null;
  const { images, labels, predicted, loss, confidence, order, correct } = frame.batch;
  const [n, h, w] = images.shape;
  const digits = Array.from({ length: n }, (_, i) => {
    const right = labels[i] === predicted[i], said = predicted[i] < 0 ? "?" : predicted[i], words = `true ${labels[i]}, predicted ${said}, loss ${short(loss[i])}`;
    const canvas = el("canvas", { className: "digit", role: "img", "aria-label": words });
    paintDigit(canvas, images.subarray(i * h * w, (i + 1) * h * w), w, h);
    return el("figure", { className: right ? "right" : "wrong", title: `loss ${short(loss[i])}, ${said === "?" ? "no class predicted" : `predicted with probability ${percent(confidence[i])}`}` }, canvas,
      el("figcaption", {}, right ? el("b", {}, `${labels[i]} ✓`) : el("b", {}, `${labels[i]} → ${said}`), el("span", {}, short(loss[i]))));
  });
  return el("section", { className: "minibatch" }, el("h3", {}, "The minibatch, worst first"),
    el("p", { className: "hint" }, `Step ${frame.step.toLocaleString("en")}: ${correct} of ${order.length} correct before the update. Below each: true → predicted label, loss.`),
    el("div", { className: "batch" }, ...digits));
}
