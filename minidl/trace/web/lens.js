// One weight under the lens: the terms that the optimizer gave for its update, with this weight's values filled in.

const SYMBOLS = {
  lr: "η", b1: "β₁", b2: "β₂", eps: "ε", mu: "μ", mu1: "μ₁", mu2: "μ₂", alpha: "α", wd: "λ", mhat: "m̂", vhat: "v̂", Lambda: "Λ", gamma: "γ",
};
const SUBSCRIPTS = { a_sgd: ["a", "SGD"], a_rms: ["a", "RMS"], lr_rms: ["η", "RMS"], lr_decay: ["κ", ""], w_shrunk: ["w", "shrunk"] };

// A symbol as it is set in print: m_old becomes m with the subscript t−1.
function symbol(name) {
  const old = name.endsWith("_old"), stem = old ? name.slice(0, -4) : name;
  const [letter, below] = SUBSCRIPTS[stem] || [SYMBOLS[stem] || stem, old ? "t−1" : ""];
  return el("var", {}, letter, below ? el("sub", {}, below) : null);
}

// A formula in Python's syntax, split into names, numbers and signs.
const NAME = /^[\p{L}_]/u;
const FUNCTIONS = { sqrt: Math.sqrt, exp: Math.exp, log: Math.log, abs: Math.abs, min: Math.min, max: Math.max, sign: Math.sign };
function tokensOf(source) {
  return source.match(/[\p{L}_][\p{L}\p{N}_]*|(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?|\*\*|[<>=!]=|[-+*/()<>,]/gu) || [];
}

// The formula as nodes. `put` gives the nodes for a symbol: its name or its value.
const SIGNS = { "*": " · ", "/": " / ", ",": ", ", "<": " < ", ">": " > ", "<=": " ≤ ", ">=": " ≥ ", "==": " = ", "!=": " ≠ ", if: " if ", else: " else " };
function formula(source, put) {
  const tokens = Array.isArray(source) ? source : tokensOf(source), nodes = [];
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i];
    if (token === "sqrt") {
      const end = closing(tokens, i + 1);
      const under = tokens.slice(i + 2, end);
      nodes.push("√", el("span", { className: "root" }, ...(under.length === 1 ? put(under[0], true) : formula(under, put))));
      i = end;
    }
    else if (token === "**") {
      const end = endOfPower(tokens, i + 1);
      nodes.push(el("sup", {}, ...formula(tokens.slice(i + 1, end + 1), put)));
      i = end;
    }
    else if (token in SIGNS) nodes.push(SIGNS[token]);
    else if (token in FUNCTIONS) nodes.push(token);
    else if (NAME.test(token)) nodes.push(...put(token));
    else if (token === "-" && (i === 0 || tokens[i - 1] === "(" || tokens[i - 1] in SIGNS)) nodes.push("−");
    else if (token === "+" || token === "-") nodes.push(` ${minus(token)} `);
    else nodes.push(token);
  }
  return nodes;
}

// Where the parenthesis that opens here closes.
function closing(tokens, i) {
  let depth = 0;
  do depth += { "(": 1, ")": -1 }[tokens[i++]] || 0; while (depth > 0);
  return i - 1;
}

// Where the power that starts here ends.
function endOfPower(tokens, i) {
  if (tokens[i] === "-") return endOfPower(tokens, i + 1);
  const end = tokens[i] in FUNCTIONS ? closing(tokens, i + 1) : tokens[i] === "(" ? closing(tokens, i) : i;
  return tokens[end + 1] === "**" ? endOfPower(tokens, end + 2) : end;
}

function valueAt(term, place) { return typeof term.value === "object" ? term.value[place] : term.value; }

function lensPanel(run, state, act) {
  const { grid, index, name } = run.weight(state.weight), frame = run.frame(state.step);
  const choose = el("select", { id: `parameter-${run.id}`, onchange: (event) => act.weight(run.weights[event.target.value].at) },
    ...run.weights.map((g, i) => el("option", { value: i, selected: g === grid }, `${g.name} (${g.shape.join("×")})`)));
  const bar = el("div", { className: "lens-bar" },
    el("label", { htmlFor: choose.id }, "in"), choose,
    el("button", { type: "button", title: "Previous weight (P)", "aria-label": "Previous weight", onclick: () => act.weight(state.weight - 1) }, "‹"),
    el("b", { className: "weight-name" }, name),
    el("button", { type: "button", title: "Next weight (N)", "aria-label": "Next weight", onclick: () => act.weight(state.weight + 1) }, "›"),
    el("span", { className: "hint" }, `${(state.weight - grid.at + 1).toLocaleString("en")} of the ${grid.count} under the lens`));
  const section = el("section", { className: "lens" }, el("h3", {}, "One weight under the lens"), bar);
  if (!frame.terms.length) {
    section.append(el("p", { className: "notice" }, "No update: the loss of this step was not finite."));
    return section;
  }
  const terms = new Map(frame.terms.map((term) => [term.symbol, term]));
  const named = (token) => [symbol(token)];
  const numbered = (token, alone) => {
    const value = valueAt(terms.get(token), state.weight), nodes = number(value);
    return !alone && (value < 0 || nodes.length > 1) ? [el("span", { className: "inside" }, "(", ...nodes, ")")] : nodes;
  };
  const row = (term) => {
    const value = valueAt(term, state.weight), tr = el("tr", { className: term.formula ? "" : "given" });
    tr.dataset.symbol = term.symbol;
    if (term.formula && state.hide) tr.onclick = () => tr.classList.toggle("told");
    tr.append(el("th", { scope: "row" }, symbol(term.symbol)),
      el("td", { className: "formula" },
        term.formula ? el("span", { className: "symbols" }, "= ", ...formula(term.formula, named)) : el("span", { className: "words" }, term.words),
        term.formula ? el("span", { className: "numbers" }, "= ", ...formula(term.formula, numbered)) : null,
        term.formula && term.words ? el("span", { className: "words" }, term.words) : null),
      el("td", { className: "value" }, ...number(value)));
    return tr;
  };
  const given = frame.terms.filter((term) => !term.formula), derived = frame.terms.filter((term) => term.formula);
  section.append(
    el("p", { className: "rule" }, `Step ${frame.step.toLocaleString("en")}, ${run.phase(frame.step)}`, frame.step === state.step ? "" : ", the nearest recorded one",
      ": ", moves(terms, state.weight)),
    el("div", { className: "reveal" }, el("button", { type: "button", title: "Hide the results, so the class can predict them (H)", onclick: () => act.hide() }, state.hide ? "show all results" : "hide the results"),
      state.hide ? el("span", { className: "hint" }, "Predict, then click a row.") : null),
    el("table", { className: `terms ${state.hide ? "covered" : ""}` }, el("caption", { className: "unseen" }, `The update of ${name} at step ${frame.step}`),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "term"), el("th", { scope: "col" }, "how it is computed"), el("th", { scope: "col" }, "value"))),
      el("tbody", {}, ...given.map(row)), el("tbody", {}, ...derived.map(row))),
    whatIfPanel(run, state, frame), weightCurve(run, state, name));
  return section;
}

// How the weight changes: a decoupled decay moves it too, and so may a rule's own update.
function moves(terms, place) {
  if (valueAt(terms.get("w_old"), place) === valueAt(terms.get("w"), place)) return "the weight does not change.";
  return { "w_old + p": "the weight moves by p.", "w_shrunk + p": "the weight decays and moves by p." }[terms.get("w").formula] || "the weight moves.";
}

// This weight at the recorded steps.
function weightCurve(run, state, name) {
  const points = run.frames.filter((f) => f.terms.length).map((f) => [f.step, valueAt(f.terms.find((t) => t.symbol === "w"), state.weight)]);
  return el("figure", { className: "chart" }, el("figcaption", {}, symbol("w"), ` at the recorded steps`),
    stepChart({ curves: [{ points, class: "curve" }], label: `${name} from ${short(points[0][1])} to ${short(points[points.length - 1][1])}`, first: run.first, last: run.last, cursor: state.step, height: 110 }));
}
