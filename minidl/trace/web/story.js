// The story of a switch in numbers, before and after; and how two runs differ.

// The step before the switch and the one after it, if they were recorded in full.
function aroundSwitch(run) {
  const whole = run.frames.filter((f) => f.geometry);
  return { before: upTo(run.event.step, whole), after: whole.find((f) => f.step > run.event.step) };
}

function storyPanel(run, state) {
  const { before, after } = aroundSwitch(run);
  if (!before || !after) return el("p", { className: "hint" }, "The run ended with its switch: there is no step after it to compare with.");
  const accuracy = (epoch) => (epoch && epoch.val_accuracy !== null ? [`${percent(epoch.val_accuracy)}, epoch ${epoch.epoch}`] : ["–"]);
  const { name } = run.weight(state.weight), moves = (f) => (f.terms.length ? [short(valueAt(f.terms.find((t) => t.symbol === "p"), state.weight))] : ["–"]);
  const rows = [
    [["rule"], (f) => [run.phase(f.step)]],
    [["learning rate ", symbol("lr")], (f) => [short(run.rate(f.step), 4)]],
    [["length of the gradient |", symbol("g"), "|"], (f) => [short(f.geometry.g)]],
    [["length of the whole step |", symbol("p"), "|"], (f) => [short(f.geometry.p)]],
    [["angle between ", symbol("p"), " and −", symbol("g")], (f) => [angle(f.geometry.degrees)]],
    [["step ", symbol("p"), ` of ${name}`], moves],
    [["validation accuracy"], (f) => accuracy(f === before ? upTo(run.event.step, run.epochs) : run.epochs.find((e) => e.step > run.event.step))],
  ];
  const head = (f, words) => el("th", { scope: "col" }, `${words}, step ${f.step.toLocaleString("en")}`);
  return el("div", { className: "story" },
    el("table", { className: "before-after" }, el("caption", { className: "unseen" }, "Before and after the switch"),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, ""), head(before, "before"), head(after, "after"))),
      el("tbody", {}, ...rows.map(([what, tell]) => el("tr", {}, el("th", { scope: "row" }, ...what), el("td", {}, ...tell(before)), el("td", {}, ...tell(after)))))),
    el("p", { className: "moral" }, ...moral(run, before, after)), el("p", { className: "moral" }, ...suggested(run, before)));
}

// Why the learning rates before and after can't be compared.
function moral(run, before, after) {
  const rates = [run.rate(before.step), run.rate(after.step)], times = before.geometry.p / after.geometry.p;
  const way = rates[1] > rates[0] ? "up" : rates[1] < rates[0] ? "down" : "";
  const rate = way ? `goes ${way}, from ${short(rates[0])} to ${short(rates[1])}` : `stays at ${short(rates[0])}`;
  const step = times > 1.05 ? `shrinks by a factor of ${short(times, 2)}` : times < 1 / 1.05 ? `grows by a factor of ${short(1 / times, 2)}` : "keeps its length";
  const against = (rates[1] > rates[0]) === (times > 1) && rates[1] !== rates[0] ? "and yet" : "and";
  const words = [`The learning rate ${rate}, ${against} the whole step ${step}. `];
  if (measuresAnother(run, before, after))
    words.push("The two rates measure different things: an adaptive rule divides each weight's gradient by its typical size, so its rate is about how far every weight moves; SGD multiplies the gradient, so its step is small where the gradient is small", product(run, after), ".");
  return words;
}

function measuresAnother(run, before, after) { return /^(adam|adagrad|rmsprop)/.test(run.phase(before.step)) && /^sgd/.test(run.phase(after.step)); }

// If momentum has nothing to add yet, the length of a step is the learning rate times that of the gradient: in numbers.
function product(run, after) {
  const rate = run.rate(after.step), { p, g } = after.geometry, empty = run.momentumAfter() > 0 ? ", since its momentum starts at zero" : "";
  return Math.abs(p / (rate * g) - 1) < 0.01 ? `: here ${short(rate)} · ${short(g)} = ${short(p)}${empty}` : "";
}

// The learning rate that the projection of the last step suggests, compared with the one that was taken.
function suggested(run, before) {
  const { gamma, degrees } = before.geometry, projected = run.switch.projection, rate = run.event.lr;
  const words = [`The learning rate is ${short(rate)}; `, symbol("gamma"), ` of the step before the switch would have suggested ${short(gamma)}`];
  if (gamma <= 0) return [`The learning rate is ${short(rate)}. `, symbol("gamma"), ` of the step before the switch, ${short(gamma)}, suggests none: the step went uphill by the gradient of its own minibatch.`];
  if (projected && Math.abs(projected.lambda[run.event.step - 1] - rate) > 1e-12 * rate && run.momentumAfter() > 0)
    words.push(", and ", symbol("Lambda"), `, its running average, ${short(projected.lambda[run.event.step - 1])}, to be multiplied by 1 − μ = ${short(1 - run.momentumAfter())}, because momentum makes each step 1/(1 − μ) times as long`);
  words.push(". ", symbol("gamma"), ` is the learning rate whose SGD step, projected onto the step that was taken, has the same length: with ${angle(degrees)} between the two, the SGD step has to be long`, degrees > 80 ? ", here very long, and γ varies from minibatch to minibatch: alone, it is not a learning rate to continue with." : ".");
  return words;
}

// ---- two runs ----

const NOT_A_CHOICE = new Set(["bits", "fast", "run"]); // of a run's settings: these name the run or its machine, not the experiment

function differencesPanel([a, b]) {
  const plain = (value) => (value === null || value === undefined ? "–" : setting(value));
  const names = [...new Set([a, b].flatMap((run) => Object.keys(run.config || {})))].filter((name) => !NOT_A_CHOICE.has(name));
  const rows = names.map((name) => [name.replaceAll("_", " "), ...[a, b].map((run) => plain((run.config || {})[name]))]).filter(([, x, y]) => x !== y);
  if (![a, b].every((run) => run.config)) rows.unshift(["title", a.title, b.title]);
  const first = Math.max(a.first, b.first), last = Math.min(a.last, b.last);
  let parted = first;
  while (parted <= last && a.loss(parted) === b.loss(parted)) parted++;
  const rates = [a, b].map((run) => run.rate(first));
  if (rates[0] !== rates[1]) rows.push([`learning rate at step ${first}`, ...rates.map((rate) => short(rate))]);
  const story = parted > last ? "Their losses are the same at every step that both have." : parted === first ? `Their losses differ from step ${first} on.`
    : `Their losses are the same, to the last digit, up to step ${(parted - 1).toLocaleString("en")}, and differ from step ${parted.toLocaleString("en")} on.`;
  return el("section", { className: "differences" }, el("h2", {}, rows.length ? "A and B differ in" : "A and B have the same settings"),
    rows.length ? el("table", { className: "before-after" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, ""), ...LETTERS.map((letter, i) => el("th", { scope: "col" }, el("span", { className: `letter run-${i}` }, letter))))),
      el("tbody", {}, ...rows.map(([name, x, y]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, x), el("td", {}, y))))) : null,
    el("p", { className: "hint" }, story));
}
