// A tour of five stops through a run, and the lecture mode: one panel that fills the screen.

const PANELS = ["network", "filters", "minibatch", "lens", "switch"];

// What the learning rate means for the step, if its formula tells.
function aboutRate({ terms }, rate) {
  const how = terms.find((t) => t.symbol === "p")?.formula, first = terms.length && valueAt(terms[0], 0) === 1;
  if (how === "-lr * g") return `The step is minus the gradient times the learning rate, ${rate}. Open “What if?” and change the learning rate.`;
  if (how === "-lr * mhat / (sqrt(vhat) + eps)" && first)
    return `At its first step this rule uses only the gradient's sign: the step is about the learning rate, ${rate}, however large g is. Open “What if?” and turn off the bias correction.`;
  return `The learning rate is ${rate}. Open “What if?” and change it.`;
}

// Each stop: a title, the text, the step to go to, the panel to look at, and the stage in it.
function tourOf(run) {
  const first = run.recorded[0], last = run.recorded[run.recorded.length - 1], classes = run.frame(first).batch ? run.layers[run.layers.length - 1].shape[0] : 0;
  const n = run.layers.length, rate = short(run.rate(first));
  const guess = classes > 1 ? ` A blind guess among ${classes} classes has a loss of log ${classes} = ${short(Math.log(classes))}.` : "";
  const scored = run.epochs.filter((epoch) => epoch.val_accuracy !== null), end = scored[scored.length - 1];
  const right = (step) => { const { batch } = run.nearest(step, (f) => f.batch) || {}; return batch ? ` ${batch.correct} of the ${batch.order.length} images of this minibatch are classified correctly.` : ""; };
  const { before, after } = run.event ? aroundSwitch(run) : {};
  return [
    { title: "Before anything is learned", step: first, panel: "minibatch",
      words: `Step ${first}. The first minibatch enters; the worst examples are shown first. Its loss is ${short(run.loss(first))}.${guess}${right(first)} Everything on this page is about one such step.` },
    { title: "Forward, and back", step: first, panel: "network", stage: n + 1,
      words: `The images went forward through ${n} layers to the loss; now its gradient starts back. J and K move through the stages. Click a layer: you see its output for the worst example and, beside it, the gradient that came back. Red is positive, blue negative.` },
    { title: "One weight", step: first, panel: "lens",
      words: `A single weight and every line of its update, with its own values. ${aboutRate(run.frame(first), rate)}` },
    after ? { title: "The switch", step: after.step, panel: "switch",
      words: `After step ${run.event.step.toLocaleString("en")} the rule changed. The table compares the steps before and after: the learning rate went from ${short(run.rate(before.step))} to ${short(run.rate(after.step))}, the length of the whole step from ${short(before.geometry.p)} to ${short(after.geometry.p)}.${measuresAnother(run, before, after) ? " The two rates measure different things." : ""}` }
      : { title: "Step and gradient", step: run.recorded[Math.floor(run.recorded.length / 2)], panel: "switch",
        words: `${run.switch ? sentence(run.switch.verdict) : "This run has no switch."} The drawing shows the angle between step and gradient: SGD without momentum moves straight along −g, an adaptive rule at an angle.` },
    { title: run.ending ? "Where it ended" : "What was learned", step: last, panel: run.ending ? "network" : "filters",
      words: run.ending ? `The last recorded step: ${run.ending}` : `The last step. The first layer's weights were noise; now they respond to parts of the images.${right(last)}${end ? ` The validation accuracy is ${percent(end.val_accuracy)}.` : ""} Now explore on your own: the arrow keys step, ? lists all keys.` },
  ];
}

class Tour {
  constructor(app) {
    this.app = app;
    this.node = document.getElementById("tour");
    this.at = -1;
  }

  get on() { return this.at >= 0; }

  toggle() { this.on ? this.end() : this.stop(0); }

  stop(k) {
    if (k < 0 || !this.app.runs[0].frames.length) return;
    const stops = tourOf(this.app.runs[0]);
    if (k >= stops.length) return this.end();
    const { title, words, step, panel, stage } = stops[this.at = k], view = this.app.views[0];
    const press = (label, what, props = {}) => el("button", { type: "button", onclick: what, ...props }, label);
    if (stage !== undefined) view.stage = stage;
    this.node.replaceChildren(el("h2", {}, `${k + 1} of ${stops.length}: ${title}`), el("p", {}, words),
      el("div", { className: "buttons-row" }, press("‹ back", () => this.stop(k - 1), { disabled: k === 0 }), press(k === stops.length - 1 ? "end tour" : "next ›", () => this.stop(k + 1), { id: "tour-next" }), press("close", () => this.end())));
    this.node.hidden = false;
    this.node.classList.toggle("left", panel === "lens" || panel === "switch"); // beside the panel, not on it
    document.body.classList.add("touring");
    this.app.go(this.app.nearest(step));
    this.show(panel);
    document.getElementById("tour-next").focus({ preventScroll: true });
  }

  // Mark the panel, and bring it into view above the text.
  show(panel) {
    this.panel = panel;
    this.mark();
    if (this.app.lecture.on) this.app.lecture.show(panel);
    const section = document.querySelector(`article.run-0 section.${panel}`);
    if (section) section.scrollIntoView({ block: "start" });
  }

  mark() {
    document.querySelectorAll("main section.stop").forEach((node) => node.classList.remove("stop"));
    if (this.on) document.querySelector(`article.run-0 section.${this.panel}`)?.classList.add("stop");
  }

  end() {
    this.at = -1;
    this.node.hidden = true;
    document.body.classList.remove("touring");
    this.app.address.delete("tour"); // a link that is copied now leads to the step
    this.app.toAddress();
    this.mark();
    document.getElementById("tour-start").focus({ preventScroll: true });
  }
}

// One panel, as large as the screen allows.
class Lecture {
  constructor(app) {
    this.app = app;
    this.panel = "lens";
    this.on = false;
    window.addEventListener("resize", () => this.fit());
  }

  toggle() {
    this.on = !this.on;
    document.body.classList.toggle("lecture", this.on);
    document.getElementById("lecture").setAttribute("aria-pressed", this.on);
    this.app.timeline.draw();
    this.app.draw();
    if (this.on) window.scrollTo(0, 0);
  }

  show(panel) {
    this.panel = panel;
    this.app.draw();
  }

  // The buttons that choose the panel, and the largest type that fits: 28 pixels on 1,080 lines, down to 24 if the panel is too long.
  fit() {
    const main = document.getElementById("main");
    document.getElementById("panels").hidden = !this.on;
    main.style.removeProperty("--zoom");
    if (!this.on) return;
    main.querySelectorAll("section").forEach((section) => section.classList.toggle("shown", section.classList.contains(this.panel)));
    document.querySelectorAll("#panels button").forEach((button) => button.setAttribute("aria-pressed", button.textContent.slice(2) === this.panel));
    const narrow = innerWidth < 760, [largest, smallest] = narrow ? [20, 18] : [Math.max(28, Math.round(innerHeight / 38)), 24]; // pixels, where the page has 15
    for (let letters = largest; letters >= smallest; letters--) {
      main.style.setProperty("--zoom", letters / 15);
      if (main.getBoundingClientRect().bottom + scrollY <= innerHeight) break; // wherever the page is scrolled to
    }
  }
}
