// The timeline: loss, validation accuracy, learning rate and phase of all steps; marks for the recorded ones; click to go there.

const LETTERS = ["A", "B"];

class Timeline {
  constructor(runs, go) {
    this.runs = runs;
    this.node = document.getElementById("timeline");
    this.first = Math.min(...runs.map((run) => run.first));
    this.last = Math.max(...runs.flatMap((run) => [run.last, ...run.recorded])); // one that failed has started its last step
    this.end = Math.max(this.last, this.first + 1); // of the axis, which needs a length
    const { node } = this; // it has the pointer until a browser takes it back: to scroll, or when the button is released anywhere
    node.addEventListener("pointerdown", (event) => { if (!event.button) { node.setPointerCapture(event.pointerId); this.seek(event, go); } });
    node.addEventListener("pointermove", (event) => node.hasPointerCapture(event.pointerId) && this.seek(event, go));
    new ResizeObserver(() => this.draw()).observe(this.node);
  }

  seek(event, go) {
    const box = this.node.firstChild.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * this.width;
    go(Math.round(this.x.back(x)));
  }

  draw() {
    const width = (this.width = Math.max(320, Math.round(this.node.clientWidth))), narrow = width < 600;
    const top = 16, bottom = narrow ? 78 : 96;
    const [low, high] = extent(this.runs.flatMap((run) => [...run.losses]), true);
    const loss = axis(low, Math.max(high, low * 1.1), bottom, top, true);
    const validated = (run) => run.epochs.filter((epoch) => epoch.val_accuracy !== null); // some runs have no validation images
    const accuracies = this.runs.flatMap((run) => validated(run).map((epoch) => epoch.val_accuracy));
    const [worst, best] = extent(accuracies), margin = (best - worst || 0.05) * 0.15;
    const accuracy = axis(Math.max(0, worst - margin), Math.min(1, best + margin), bottom, top);
    const losses = labelled(ticks(loss, 3)), shares = accuracies.length ? labelled(ticks(accuracy, 3)) : [];
    const left = Math.max(narrow ? 36 : 46, room(losses)), right = width - Math.max(narrow ? 40 : 52, room(shares));
    const x = (this.x = axis(this.first, this.end, left, right));
    const parts = [
      ...losses.map(([v, words]) => text(left - 6, loss(v) + 3.5, words, { "text-anchor": "end", class: "loss-label" })),
      text(left - 6, 9, "loss", { "text-anchor": "end", class: "loss-label" }),
    ];
    if (accuracies.length) parts.push(
      ...shares.map(([v, words]) => text(right + 6, accuracy(v) + 3.5, words, { class: "accuracy-label" })),
      text(width - 2, 9, narrow ? "val." : "val. acc.", { "text-anchor": "end", class: "accuracy-label" }));
    let y = bottom + 6;
    this.runs.forEach((run, i) => {
      const points = validated(run).map((epoch) => [x(epoch.step), accuracy(epoch.val_accuracy)]);
      parts.push(path(dense(run.losses, run.first, x, loss), { class: `loss run-${i}` }), path(points, { class: `accuracy run-${i}` }),
        ...points.map(([cx, cy]) => svg("circle", { cx, cy, r: 2.5, class: `accuracy dot run-${i}` })));
      y = this.strip(parts, run, i, x, y, left, right, narrow);
    });
    parts.push(...stepTicks(x, narrow ? 4 : 8).map((v) => text(x(v), y + 12, v.toLocaleString("en"), { "text-anchor": "middle" })),
      text(left - 6, y + 12, "step", { "text-anchor": "end" }));
    this.line = svg("line", { y1: top - 6, y2: y, class: "cursor" });
    parts.push(this.line);
    const label = this.runs.map((run) => `${run.title}: loss from ${short(run.losses[0])} to ${short(run.losses[run.losses.length - 1])}`).join("; ");
    const drawing = picture(width, y + 18, `Timeline. ${label}`, ...parts);
    drawing.style.height = `${y + 18}px`;
    this.node.replaceChildren(drawing);
    this.move(this.step || this.first);
  }

  // Phase, learning rate and recorded steps of a run, stacked.
  strip(parts, run, i, x, y, left, right, narrow) {
    const tall = 13;
    if (this.runs.length > 1) parts.push(text(left - 6, y + 10, LETTERS[i], { "text-anchor": "end", class: `letter run-${i}` }));
    run.phases.forEach(([first, name], k) => {
      const next = run.phases[k + 1], from = x(first), to = x(next ? next[0] : run.last);
      const kind = name === "sgd" ? "sgd" : "adaptive";
      parts.push(svg("rect", { x: from, y, width: Math.max(1, to - from), height: tall, class: `phase ${kind}` }));
      if (to - from > 40) parts.push(text(from + 5, y + 10, name, { class: "phase-name" }));
    });
    const [, largest] = extent(run.rates, true), rate = axis(0, largest, y + tall - 1, y + 2);
    parts.push(path(dense(run.rates, run.first, x, rate), { class: "rate" }));
    if (!narrow) parts.push(text(right + 6, y + 10, "rate", { class: "rate-label" }));
    y += tall + 2;
    y = this.lengths(parts, run, i, x, y, right, narrow);
    for (const step of run.recorded) parts.push(svg("line", { x1: x(step), x2: x(step), y1: y, y2: y + 5, class: "mark" }));
    if (run.event) {
      const at = x(run.event.step);
      parts.push(svg("line", { x1: at, x2: at, y1: 8, y2: y + 5, class: "switch-line" }));
      const side = at > right - 60 ? -1 : 1; // of the line, where there is room; stacked, because both may be at the same step
      parts.push(text(at + 4 * side, 10 + 11 * i, this.runs.length > 1 ? `switch ${LETTERS[i]}` : "switch", { "text-anchor": side > 0 ? "start" : "end", class: "switch-label" }));
    }
    return y + 8;
  }

  // The length of the whole step at the recorded steps, on a log scale.
  lengths(parts, run, i, x, y, right, narrow) {
    const found = run.frames.filter((f) => f.geometry).map((f) => [f.step, f.geometry.p]);
    if (found.length < 2) return y;
    const tall = narrow ? 16 : 22, [low, high] = extent(found.map(([, p]) => p), true), map = axis(low, Math.max(high, low * 1.1), y + tall - 2, y + 2, true);
    const line = path(found.map(([step, p]) => [x(step), map(p)]), { class: `step-length run-${i}` });
    line.append(svg("title"));
    line.firstChild.textContent = `length of the whole step |p|, on a log scale from ${short(high)} down to ${short(low)}`;
    parts.push(line, text(right + 6, y + tall / 2 + 4, "|p|", { class: "rate-label" }));
    return y + tall + 2;
  }

  move(step) {
    this.step = step;
    if (!this.line) return;
    this.line.setAttribute("x1", this.x(step));
    this.line.setAttribute("x2", this.x(step));
  }
}
