// The switch, explained: what it waits for, how close it is, and the geometry of the projected learning rate.

// No chart for these: some only count up, and gamma and Lambda have a chart of their own.
const COUNTS = new Set(["step", "epochs finished", "|Lambda - gamma|"]);
const GAMMA = "The SGD learning rate whose step, projected onto the step that was taken, has the same length: γ = p·p / −(p·g). Λ is its running average.";

function sentence(words) { return `${words[0].toUpperCase()}${words.slice(1)}.`; }

function switchPanel(run, state) {
  const section = el("section", { className: "switch" }, el("h3", {}, "The switch, explained"));
  if (!run.switch) {
    section.append(el("p", {}, `This run has one optimizer, ${run.phases.length ? run.phases[0][1] : "none"}, and no switch.`), projection(run, state));
    return section;
  }
  const { condition, event, verdict } = run.switch, told = (name, value, words = name) => fact(words, value, { id: `switch-${name}-${run.id}` });
  section.append(el("p", { className: "verdict" }, sentence(verdict)),
    event
      ? el("dl", { className: "facts" }, told("step", event.step.toLocaleString("en")), told("epoch", String(event.epoch), "epochs finished"), told("rate", number(event.lr), "learning rate"), told("condition", event.condition))
      : el("dl", { className: "facts" }, told("condition", condition)));
  if (event) section.append(storyPanel(run, state));
  const note = run.standing(state.step), over = event && state.step > event.step;
  if (note) section.append(el("p", { className: "standing" }, over ? "It has switched; the condition is no longer checked. Last: " : `At step ${note.step.toLocaleString("en")}: `, el("b", {}, note.words)));
  if (run.switch.projection) section.append(rates(run, state));
  run.switch.conditions.forEach((one, i) => {
    if (one.metric && !COUNTS.has(one.metric)) section.append(towards(run, state, one, i));
  });
  section.append(projection(run, state));
  return section;
}

// A condition's value on its way to its level; for a plateau, the metric itself too.
function towards(run, state, one, i) {
  const points = run.history.filter((h) => h.standings[i].value !== null).map((h) => [h.step, h.standings[i].value]);
  const level = run.history.length ? run.history[run.history.length - 1].standings[i].level : null;
  const figure = el("figure", { className: "chart" }, el("figcaption", {}, el("code", {}, one.condition), ` waits for ${one.metric} to reach ${short(level)}`));
  if (points.length) figure.append(stepChart({ curves: [{ points, class: "curve" }], label: `${one.metric}: ${short(points[points.length - 1][1])} of ${short(level)}`, first: run.first, last: run.last, cursor: state.step, level, height: 110 }));
  const metric = one.metric.split(" of ")[1];
  if (metric && run.epochs.length && metric in run.epochs[0]) {
    const values = run.epochs.map((epoch) => [epoch.step, epoch[metric]]);
    figure.append(el("figcaption", {}, metric, " after each epoch"), stepChart({ curves: [{ points: values, class: "curve" }], label: `${metric} after each epoch`, first: run.first, last: run.last, cursor: state.step, height: 110 }));
  }
  return figure;
}

// gamma and Lambda over time. The axis covers most of them; arrowheads stand for outliers.
function rates(run, state) {
  const { gamma, lambda, compared, tolerance } = run.switch.projection, curves = [{ values: gamma, first: 1, class: "gamma" }];
  if (compared) curves.push({ values: compared, first: 1, class: "compared" });
  curves.push({ values: lambda, first: 1, class: "lambda" });
  const most = [middle(gamma, 0.1), middle(lambda, 0.05)].filter(Boolean);
  const range = most.length ? [Math.min(...most.map((m) => m[0])), Math.max(...most.map((m) => m[1]))] : null;
  if (range) range.splice(0, 2, range[0] - 0.15 * (range[1] - range[0]), range[1] + 0.15 * (range[1] - range[0]));
  const far = range ? [...gamma].map((v, i) => [v, i + 1]).filter(([v]) => v < range[0] || v > range[1]) : [];
  const farthest = far.reduce((best, one) => (Math.abs(one[0]) > Math.abs(best[0]) ? one : best), [0, 0]);
  const band = tolerance && { first: 1, low: lambda.map((v, i) => v - tolerance[i]), high: lambda.map((v, i) => v + tolerance[i]) };
  const k = Math.min(state.step, gamma.length) - 1;
  const now = k >= 0 ? [` Step ${(k + 1).toLocaleString("en")}: `, el("var", {}, "γ"), " = ", ...number(gamma[k]), ", ", el("var", {}, "Λ"), " = ", ...number(lambda[k])] : [];
  if (k >= 0 && tolerance) now.push(", tolerance ", ...number(tolerance[k]));
  return el("figure", { className: "chart rates" },
    el("figcaption", {}, tip(el("span", { className: "key gamma" }, "γ"), GAMMA), ": the SGD learning rate that each step suggests; ", el("span", { className: "key lambda" }, "Λ"), ": its running average; ", el("span", { className: "key band" }, "band"), ": the tolerance",
      ...(compared ? ["; ", el("span", { className: "key compared" }, "mean"), " of the last γ, which is compared with Λ."] : ["."]),
      far.length ? ` Arrowheads: ${far.length} of ${gamma.length.toLocaleString("en")} γ lie beyond the axis, the farthest at ${short(farthest[0])} (step ${farthest[1].toLocaleString("en")}).` : null),
    stepChart({ curves, label: "gamma and Lambda over the steps", first: 1, last: Math.max(2, gamma.length), cursor: Math.min(state.step, gamma.length), band, range, height: 170 }),
    el("p", { className: "now" }, ...now));
}

// The step p and the direction -g, drawn to scale in the plane that contains both.
function projection(run, state) {
  const frame = run.nearest(state.step, (f) => f.geometry);
  if (!frame) return el("p", { className: "hint" }, "No step of this run was recorded with its geometry.");
  const { cos, degrees, gamma, p: length, g } = frame.geometry;
  const caption = [`Step ${frame.step.toLocaleString("en")}: the step `, el("var", {}, "p"), " is ", ...number(length), " long and ", `${angle(degrees)} off the direction −`, el("var", {}, "g"), ". "];
  const figure = el("figure", { className: "chart arrows" });
  if (!(cos > 0.02)) {
    caption.push(cos <= 0 ? "It does not go down the gradient at all, so no SGD learning rate fits it." : "They are nearly at right angles: no useful SGD learning rate fits it.");
  } else {
    caption.push("With the learning rate ", el("var", {}, "γ"), " = ", ...number(gamma), ", the SGD step −", el("var", {}, "γg"), " projected onto ", el("var", {}, "p"), " is ", el("var", {}, "p"), " itself: this defines ", el("var", {}, "γ"), ".");
  }
  figure.append(arrows(cos, degrees), el("figcaption", {}, ...caption));
  return figure;
}

// -gamma g to the right; p at its angle, as long as the projection of -gamma g onto it.
function arrows(cos, degrees) {
  const width = 460, turn = (degrees * Math.PI) / 180, fits = cos > 0.02, reach = 340, length = fits ? reach * cos : 120;
  const height = Math.max(80, length * Math.sin(turn) + 60), x0 = fits ? 40 : width / 2 - 60, y0 = height - 24;
  const end = [x0 + (fits ? reach : 200), y0], point = [x0 + length * Math.cos(turn), y0 - length * Math.sin(turn)];
  const arrow = (to, name) => svg("line", { x1: x0, y1: y0, x2: to[0], y2: to[1], class: `arrow ${name}`, "marker-end": `url(#head-${name})` });
  const head = (name) => svg("marker", { id: `head-${name}`, viewBox: "0 0 10 10", refX: 9, refY: 5, markerWidth: 6, markerHeight: 6, orient: "auto" }, svg("path", { d: "M0 0L10 5L0 10z", class: `arrow-head ${name}` }));
  const r = Math.min(44, length * 0.5), arc = `M${x0 + r} ${y0}A${r} ${r} 0 0 0 ${x0 + r * Math.cos(turn)} ${y0 - r * Math.sin(turn)}`;
  const half = turn / 2, at = [x0 + (r + 8) * Math.cos(half), y0 - (r + 8) * Math.sin(half)];
  return picture(width, height, `The step p and the direction of minus g, ${angle(degrees)} apart`,
    svg("defs", {}, head("p"), head("g")), svg("path", { d: arc, class: "arc" }),
    fits && svg("line", { x1: end[0], y1: end[1], x2: point[0], y2: point[1], class: "shadow" }), arrow(end, "g"), arrow(point, "p"),
    text(point[0] - 4, point[1] - 8, "p", { class: "arrow-name p", "text-anchor": "middle" }), text(end[0] + 8, end[1] + 5, fits ? "−γg" : "−g", { class: "arrow-name g" }),
    text(...at, angle(degrees), { class: "degrees" }));
}
