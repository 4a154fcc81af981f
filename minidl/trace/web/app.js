// The page as a whole: the current position, the keys and buttons, and redrawing.

class App {
  constructor(runs) {
    this.runs = runs;
    runs.forEach((run, i) => { run.id = i; });
    this.steps = [...new Set(runs.flatMap((run) => run.recorded))].sort((a, b) => a - b);
    this.state = { step: this.steps[0] ?? 1 };
    this.views = runs.map(() => ({ layer: 0, stage: 0, weight: 0, hide: false, wish: { numbers: {}, uncorrected: false, sgd: false, open: false } }));
    const common = this.steps.filter((step) => runs.every((run) => run.recorded.includes(step)));
    this.walk = common.length > 5 ? common : this.steps; // where the arrow keys lead: two runs at the same step
    runs.forEach((run, i) => {
      const grid = run.weights[0]; // initially, one in the middle
      if (grid) this.choose(i, grid.at + Math.floor(grid.outputs.length / 2) * grid.inputs.length + Math.floor(grid.inputs.length * 0.4));
    });
    this.rest();
    this.timeline = new Timeline(runs, (step) => this.go(this.nearest(step)));
    this.tour = new Tour(this);
    this.lecture = new Lecture(this);
    this.controls();
    window.addEventListener("hashchange", (event) => { this.fromAddress(new URL(event.newURL)); this.draw(); });
    this.fromAddress();
    this.draw();
    const stop = Number(this.address.get("tour"));
    if (stop) this.tour.stop(stop - 1);
  }

  // A page that was saved in a lecture, in a tour or while it played has what they had set.
  rest() {
    document.body.className = "";
    document.getElementById("tour").hidden = true;
    document.getElementById("lecture").setAttribute("aria-pressed", false);
    this.labelPlay();
  }

  // ---- the current position ----

  nearest(step) {
    return this.steps.reduce((best, s) => (Math.abs(s - step) < Math.abs(best - step) ? s : best), this.steps[0]);
  }

  fromAddress({ hash } = location) {
    const address = (this.address = new URLSearchParams(hash.slice(1))), step = Number(address.get("step"));
    const weight = Number(address.get("weight") ?? NaN);
    this.views.forEach((_, i) => { if (weight >= 0 && weight < this.runs[i].underLens) this.choose(i, weight); });
    if (step) this.state.step = this.nearest(step);
  }

  // Written once the page rests: a browser allows few changes in ten seconds, and Safari and Firefox raise an error after them.
  toAddress(weight) {
    if (location.protocol === "about:") return; // in a notebook the frame has no address
    this.address.set("step", this.state.step);
    if (weight !== undefined) this.address.set("weight", weight);
    clearTimeout(this.writing);
    this.writing = setTimeout(() => history.replaceState(null, "", `#${this.address}`), 200);
  }

  go(step) {
    if (step === undefined) return;
    this.state.step = step;
    this.toAddress();
    this.draw();
  }

  jump(n) {
    const { walk } = this, { step } = this.state, past = walk.findLastIndex((s) => s <= step);
    const at = n < 0 && past >= 0 && walk[past] !== step ? past + 1 : past; // a step that only one run has lies between
    this.go(walk[Math.max(0, Math.min(walk.length - 1, at + n))]);
  }

  // To the first step by the new rule or, if already there, to the last one by the old.
  toSwitch() {
    const events = this.runs.map((run) => run.event).filter(Boolean);
    if (!events.length) return;
    const at = events[0].step, before = this.nearest(at);
    const after = this.steps.find((step) => step > at);
    this.go(this.state.step === after || !after ? before : after);
  }

  play() {
    this.playing = this.playing ? clearInterval(this.playing) : setInterval(() => {
      if (this.state.step >= this.walk[this.walk.length - 1]) this.play();
      else this.jump(1);
    }, 600 / Number(document.getElementById("speed").value));
    this.labelPlay();
  }

  labelPlay() {
    const button = document.getElementById("play");
    button.textContent = this.playing ? "pause" : "play";
    button.setAttribute("aria-label", this.playing ? "Pause" : "Play");
  }

  // Put a weight under the lens, and show its layer.
  choose(i, weight) {
    const run = this.runs[i], { grid } = run.weight(weight), layer = run.layers.findIndex((one) => grid.name in one.parameters);
    this.views[i].weight = weight;
    if (layer >= 0) this.views[i].layer = layer;
  }

  actions(i) {
    const view = this.views[i], run = this.runs[i];
    const change = (what, value) => { view[what] = value; this.draw(); };
    return {
      layer: (layer) => change("layer", layer),
      hide: () => change("hide", !view.hide),
      weight: (weight) => { this.choose(i, (weight + run.underLens) % run.underLens); this.toAddress(view.weight); this.draw(); },
      stage: (by) => {
        const all = stages(run), stage = (view.stage + by + all.length) % all.length, { layer } = all[stage];
        if (layer >= 0 && layer < run.layers.length) view.layer = layer;
        change("stage", stage);
      },
    };
  }

  // ---- keys and buttons ----

  controls() {
    const press = (id, what) => document.getElementById(id).addEventListener("click", what);
    press("first", () => this.go(this.steps[0]));
    press("back", () => this.jump(-1));
    press("play", () => this.play());
    press("forward", () => this.jump(1));
    press("last", () => this.go(this.steps[this.steps.length - 1]));
    press("to-switch", () => this.toSwitch());
    press("theme", () => this.theme());
    press("help", () => this.help());
    press("tour-start", () => this.tour.toggle());
    press("lecture", () => this.lecture.toggle());
    document.getElementById("speed").addEventListener("change", () => { if (this.playing) { this.play(); this.play(); } });
    document.getElementById("panels").replaceChildren(...PANELS.map((panel, k) => el("button", { type: "button", onclick: () => this.lecture.show(panel) }, `${k + 1} ${panel}`)));
    document.getElementById("to-switch").hidden = !this.runs.some((run) => run.event);
    const field = document.getElementById("step");
    field.addEventListener("change", () => field.value && this.go(this.nearest(Number(field.value)))); // "": not a number
    field.addEventListener("blur", () => { field.value = this.state.step; }); // the nearest recorded, not the one that was typed
    document.addEventListener("keydown", (event) => this.key(event));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
    this.labelTheme();
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const act = this.runs.map((_, i) => this.actions(i)), each = (what) => act.forEach(what);
    const far = event.shiftKey ? 10 : 1;
    const does = {
      ArrowLeft: () => this.jump(-far), ArrowRight: () => this.jump(far), Home: () => this.go(this.steps[0]),
      End: () => this.go(this.steps[this.steps.length - 1]), s: () => this.toSwitch(), t: () => this.theme(), "?": () => this.help(),
      g: () => this.tour.toggle(), l: () => this.lecture.toggle(), h: () => each((a) => a.hide()), Escape: () => (this.tour.on ? this.tour.end() : this.lecture.on && this.lecture.toggle()),
      j: () => each((a) => a.stage(1)), k: () => each((a) => a.stage(-1)),
      n: () => each((a, i) => a.weight(this.views[i].weight + 1)), p: () => each((a, i) => a.weight(this.views[i].weight - 1)),
    };
    if (event.key === " " && !/^(BUTTON|SUMMARY)$/.test(event.target.tagName)) does[" "] = () => this.play();
    if (this.lecture.on) PANELS.forEach((panel, k) => { does[k + 1] = () => this.lecture.show(panel); });
    const what = does[event.key] || does[event.key.toLowerCase()];
    if (!what) return;
    event.preventDefault();
    what();
  }

  theme() {
    document.documentElement.dataset.theme = dark() ? "light" : "dark";
    this.labelTheme();
    this.draw();
  }

  labelTheme() { document.getElementById("theme").textContent = dark() ? "light" : "dark"; }

  help() {
    const keys = document.getElementById("keys");
    keys.hidden = !keys.hidden;
    document.getElementById("help").setAttribute("aria-expanded", !keys.hidden);
  }

  // ---- drawing ----

  draw() {
    const { step } = this.state, field = document.getElementById("step"), at = this.steps.indexOf(step);
    if (document.activeElement !== field) field.value = step;
    field.max = this.timeline.last;
    const phases = this.runs.map((run) => run.phase(step)).join(" | ");
    document.getElementById("status").textContent =
      `step ${step.toLocaleString("en")} of ${this.timeline.last.toLocaleString("en")} (${at + 1} of ${this.steps.length} recorded), ${phases}`;
    this.timeline.move(step);
    const main = document.getElementById("main"), focused = keyOf(document.activeElement), open = [...main.querySelectorAll("details")].map((d) => d.open);
    main.className = this.runs.length > 1 ? "two" : "one";
    main.replaceChildren(...(this.runs.length > 1 ? [differencesPanel(this.runs)] : []), ...this.runs.map((run, i) => runPanel(run, { ...this.views[i], step }, this.actions(i), this.runs.length > 1 ? LETTERS[i] : "")));
    main.querySelectorAll("details").forEach((details, i) => { details.open = open[i]; });
    this.tour.mark();
    this.lecture.fit();
    if (focused) [...main.querySelectorAll("button, select, canvas[tabindex], summary")].find((node) => keyOf(node) === focused)?.focus({ preventScroll: true });
  }
}

// A key to find the focused element again after the page is redrawn.
function keyOf(node) {
  const run = node && node.closest("article");
  return run ? run.className + (node.title || node.getAttribute("aria-label") || node.id || node.textContent) : "";
}

function dark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

// Everything about one run at one step.
function runPanel(run, state, act, letter) {
  const frame = run.frame(state.step), article = el("article", { className: `run run-${run.id}` });
  if (!frame) {
    article.append(el("p", { className: "notice" }, "No step of this run was recorded: it ended before the first."));
    return article;
  }
  article.append(el("h2", { className: letter ? "" : "unseen" }, el("span", { className: `letter run-${run.id}` }, letter), ` ${run.title}`)); // one run has its title above
  if (frame.step !== state.step) article.append(el("p", { className: "notice" }, `Showing step ${frame.step.toLocaleString("en")}, the nearest recorded ${frame.step < state.step ? "before" : "after"} ${state.step.toLocaleString("en")}.`));
  state = { ...state, step: frame.step };
  article.append(factsPanel(run, frame), sectionsBar(article),
    el("div", { className: "columns" },
      el("div", {}, networkPanel(run, state, act), filterPanel(run, state, act), batchPanel(run, state)),
      el("div", {}, lensPanel(run, state, act), switchPanel(run, state))),
    aboutPanel(run));
  return article;
}

// On a narrow page, where the panels are stacked: buttons that scroll to each.
function sectionsBar(article) {
  const to = (name) => el("button", { type: "button", onclick: () => article.querySelector(`section.${name}`)?.scrollIntoView() }, name);
  return el("nav", { className: "sections", "aria-label": "Panels" }, ...["network", "filters", "minibatch", "lens", "switch"].map(to));
}

function factsPanel(run, frame) {
  const { step } = frame;
  const epoch = Math.floor((step - 1) / run.steps_per_epoch) + 1, whole = run.nearest(step, (f) => f.layers.length);
  const deads = whole ? whole.layers.filter((layer) => layer.dead !== null) : [];
  const facts = [fact("step", step.toLocaleString("en")), fact("epoch", String(epoch)), fact("phase", run.phase(step)),
    ...(step <= run.last ? [fact("learning rate", number(run.rate(step)))] : []), fact("loss of this minibatch", number(run.loss(step)))];
  if (deads.length) facts.push(fact([tip("dead units", DEAD)], String(deads.reduce((sum, layer) => sum + layer.dead, 0))));
  const last = upTo(step, run.epochs);
  if (last && last.val_accuracy !== null) facts.push(fact(`validation accuracy, epoch ${last.epoch}`, last.val_accuracy.toFixed(4)));
  const parts = [el("dl", { className: "facts now" }, ...facts)];
  if (run.ending) parts.unshift(el("p", { className: "notice ending" }, `This run ended early: ${run.ending}`));
  return el("div", {}, ...parts);
}

function aboutPanel(run) {
  const settings = Object.entries(run.config || {}).filter(([, value]) => value !== null);
  const results = Object.entries(run.summary || {}).filter(([, value]) => value !== null && typeof value !== "object");
  const list = (items) => el("dl", { className: "plain" }, ...items.map(([name, value]) => fact(name.replaceAll("_", " "), setting(value))));
  return el("details", { className: "about" }, el("summary", {}, "What was recorded, and what was left out"),
    el("ul", {}, ...run.left_out.map((words) => el("li", {}, words))),
    settings.length ? el("h4", {}, "Settings") : null, settings.length ? list(settings) : null,
    results.length ? el("h4", {}, "Results") : null, results.length ? list(results) : null);
}

// A setting as text: a number, a string, a list, or names with their values, as for files.
function setting(value) {
  if (value === null || typeof value !== "object") return typeof value === "number" ? short5(value) : String(value);
  return (Array.isArray(value) ? value.map(setting) : Object.entries(value).map(([name, one]) => `${name} ${setting(one)}`)).join(", ");
}

function short5(value) { return Number.isInteger(value) ? value.toLocaleString("en") : short(value, 5); }

loadRuns().then((runs) => { window.replay = new App(runs); }).catch((error) => {
  document.getElementById("main").append(el("p", { className: "notice" }, `This page can't be shown: ${error.message}`));
});
