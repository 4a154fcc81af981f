// What if? The same step of the same weight with other values, computed by the recorded formulas.

// The value of a formula in Python's syntax: recursive descent, an `if`, a comparison, sums, products, a power, a call.
function evaluate(source, value) {
  const tokens = tokensOf(source);
  let at = 0;
  const take = (...those) => those.includes(tokens[at]) && tokens[at++];
  const choice = () => {
    const then = comparison();
    if (!take("if")) return then;
    const test = comparison();
    take("else");
    const otherwise = choice();
    return test ? then : otherwise;
  };
  const comparison = () => {
    const a = sum(), how = take("<", "<=", ">", ">=", "==", "!=");
    if (!how) return a;
    const b = sum();
    return { "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b, "==": a === b, "!=": a !== b }[how];
  };
  const sum = () => {
    let a = product();
    for (let sign; (sign = take("+", "-"));) a = sign === "+" ? a + product() : a - product();
    return a;
  };
  const product = () => {
    let a = signed();
    for (let sign; (sign = take("*", "/"));) a = sign === "*" ? a * signed() : a / signed();
    return a;
  };
  const signed = () => (take("-") ? -signed() : power());
  const power = () => {
    const base = atom();
    return take("**") ? base ** signed() : base;
  };
  const atom = () => {
    const token = tokens[at++];
    if (token === "(") {
      const inside = choice();
      take(")");
      return inside;
    }
    if (/^[\d.]/.test(token)) return Number(token.replaceAll("_", ""));
    if (!(token in FUNCTIONS)) return value(token);
    const given = [];
    take("(");
    do given.push(choice()); while (take(","));
    take(")");
    return FUNCTIONS[token](...given);
  };
  return choice();
}

// The values that can be changed, each with its map from a slider's position (0 to 1) to a value and back.
const near1 = { value: (at) => 1 - 10 ** (-4 * at), place: (v) => -Math.log10(1 - Math.min(v, 0.9999)) / 4 }; // 0 to 0.9999
const KNOBS = { lr: null, b1: near1, b2: near1, eps: { value: (at) => 10 ** (-12 + 12 * at), place: (v) => (Math.log10(Math.max(v, 1e-12)) + 12) / 12 }, mu: near1, alpha: near1 };
function knob(name, real) { // a learning rate: from a hundredth to a hundred times what it was
  return KNOBS[name] || { value: (at) => real * 10 ** (4 * at - 2), place: (v) => (Math.log10(v / real) + 2) / 4 };
}

// The step of this weight with other values. What it starts from, g and the old m and v, stays.
function imagine(terms, place, wish) {
  const values = new Map(), real = (term) => Number(valueAt(term, place));
  const look = (name) => values.get(name);
  for (const term of terms) {
    const { symbol: name, formula: how } = term;
    let value = name in wish.numbers ? wish.numbers[name] : how ? evaluate(how, look) : real(term);
    if (wish.uncorrected && name === "mhat") value = look("m");
    if (wish.uncorrected && name === "vhat") value = look("v");
    if (wish.sgd && name === "p") value = -look("lr") * look("g");
    values.set(name, value);
  }
  return values;
}

function whatIfPanel(run, state, frame) {
  const terms = frame.terms, names = new Set(terms.map((t) => t.symbol)), wish = state.wish, truth = imagine(terms, state.weight, { numbers: {} });
  const rule = run.phase(frame.step), result = el("div", { className: "result", "aria-live": "polite" });
  const show = () => {
    const other = imagine(terms, state.weight, wish), p = truth.get("p"), q = other.get("p");
    const row = (words, step, weight) => el("tr", {}, el("th", { scope: "row" }, words), el("td", {}, ...number(step)), el("td", {}, ...number(weight)));
    const ratio = p !== 0 && Number.isFinite(q / p) ? `${short(q / p)} times the step that was taken` : "";
    result.replaceChildren(el("table", { className: "before-after" },
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, ""), el("th", { scope: "col" }, "step ", symbol("p")), el("th", { scope: "col" }, "weight ", symbol("w")))),
      el("tbody", {}, row("as it was", p, truth.get("w")), row("what if", q, other.get("w")))), el("p", { className: "now" }, q === p ? "The same step." : ratio));
  };
  const slider = (name) => {
    const real = truth.get(name), { value, place } = knob(name, real), said = el("output", {}, ...number(wish.numbers[name] ?? real));
    const input = el("input", { type: "range", min: 0, max: 1, step: 0.002, value: place(wish.numbers[name] ?? real), "aria-label": `${name}, ${short(real)} in the run` });
    input.oninput = () => {
      wish.numbers[name] = Number(value(Number(input.value)).toPrecision(4));
      said.replaceChildren(...number(wish.numbers[name]));
      show();
    };
    return el("label", { className: "knob" }, el("span", {}, symbol(name)), input, said);
  };
  const check = (what, words) => {
    const input = el("input", { type: "checkbox", checked: Boolean(wish[what]), onchange: () => { wish[what] = input.checked; show(); } });
    return el("label", { className: "check" }, input, words);
  };
  const again = el("button", { type: "button", onclick: () => {
    Object.assign(wish, { numbers: {}, uncorrected: false, sgd: false });
    again.closest("details").replaceWith(whatIfPanel(run, { ...state, wish }, frame));
  } }, "as it was");
  show();
  const adaptive = !/^(sgd|momentum|nesterov)/.test(rule);
  return el("details", { className: "what-if", open: Boolean(wish.open), ontoggle: (event) => { wish.open = event.target.open; } },
    el("summary", {}, "What if? Other values for this same step"),
    el("div", { className: "knobs" }, ...Object.keys(KNOBS).filter((name) => names.has(name) && truth.get(name) > 0).map(slider),
      names.has("mhat") ? check("uncorrected", "without bias correction") : null, adaptive && names.has("lr") ? check("sgd", "as SGD, −η g, with this η") : null, again),
    result, el("p", { className: "hint" }, "What the step starts from (", symbol("g"), ...[...names].filter((name) => name.endsWith("_old") && name !== "w_old").flatMap((name) => [", ", symbol(name)]), ") stays as it was: this is another step, not another run."));
}
