// Charts as SVG: lines over steps, bars, arrows. Every chart has a label for screen readers.

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.filter(Boolean));
  return node;
}

function picture(width, height, label, ...children) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...children);
}

function text(x, y, words, attributes = {}) {
  const node = svg("text", { x, y, ...attributes });
  node.textContent = words;
  return node;
}

// A linear map from [a, b] to [c, d]; with log, of the logarithm.
function axis(a, b, c, d, log = false) {
  const f = log ? Math.log10 : (x) => x;
  const [fa, fb] = [f(a), f(b)];
  const map = (x) => c + ((f(x) - fa) / (fb - fa || 1)) * (d - c);
  map.back = (y) => fa + ((y - c) / (d - c || 1)) * (fb - fa);
  map.log = log;
  map.range = [a, b];
  return map;
}

// Round numbers within the axis, about n of them, but at least two: one alone shows no scale.
function ticks(map, n) {
  const [a, b] = map.range;
  if (map.log) {
    const found = [];
    for (let e = Math.floor(Math.log10(a)); e <= Math.ceil(Math.log10(b)); e++)
      for (const m of b / a > 1000 ? [1] : [1, 2, 5]) {
        const value = Number(`${m}e${e}`); // 10 ** 23 is not 1e23
        if (value >= a * 0.999 && value <= b * 1.001) found.push(value);
      }
    if (found.length > n + 1) return found.filter((_, i) => i % Math.ceil(found.length / n) === 0);
    if (found.length > 1) return found;
  } // less than a power of ten: round numbers of a linear axis
  const rough = (b - a) / n || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let k = Math.ceil(a / step - 1e-9); k * step <= b + step * 1e-9; k++) found.push(k * step);
  return found.length > 1 || n > 50 ? found : ticks(map, 2 * n);
}

// Tick labels: three digits, or as many as distinguish each from the one before, or the first from the second.
function labelled(values) {
  const place = (v) => Math.floor(Math.log10(Math.abs(v)) + 1e-9), gap = (i) => values[i] - values[i - 1] || values[1] - values[0] || Infinity;
  return values.map((v, i) => [v, short(v, Math.max(3, place(v) - place(gap(i)) + 1))]);
}

// The width in pixels of the longest of these labels, in 11-pixel type.
function room(labels) { return 12 + 6.6 * Math.max(0, ...labels.map(([, words]) => words.length)); }

// Steps are whole numbers.
function stepTicks(map, n) { return ticks(map, n).filter(Number.isInteger); }

// The path through points (x, y); a point that is not finite interrupts it.
function path(points, attributes) {
  let d = "", pen = "M";
  for (const [x, y] of points) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) { pen = "M"; continue; }
    d += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  }
  return svg("path", { d, fill: "none", ...attributes });
}

// A curve of many values as one point, or one vertical stroke from the lowest to the highest, per pixel.
function dense(values, first, x, y) {
  const points = [];
  let i = 0;
  while (i < values.length) {
    const pixel = Math.round(x(first + i));
    let low = Infinity, high = -Infinity;
    for (; i < values.length && Math.round(x(first + i)) === pixel; i++)
      if (Number.isFinite(values[i]) && !(y.log && values[i] <= 0)) {
        low = Math.min(low, values[i]);
        high = Math.max(high, values[i]);
      }
    if (high === -Infinity) points.push([NaN, NaN]);
    else if (low === high) points.push([pixel, y(low)]);
    else points.push([pixel, y(low)], [pixel, y(high)]);
  }
  return points;
}

// Arrowheads where a curve leaves the axis, one per pixel.
function outside({ values, first, class: kind }, x, low, high, bottom) {
  const heads = new Map();
  values.forEach((v, i) => { if (v > high || v < low) heads.set(`${Math.round(x(first + i))} ${v > high}`, [Math.round(x(first + i)), v > high]); });
  return [...heads.values()].map(([at, up]) => svg("path", { d: up ? `M${at - 3} 8L${at} 2L${at + 3} 8z` : `M${at - 3} ${bottom - 4}L${at} ${bottom + 2}L${at + 3} ${bottom - 4}z`, class: `${kind} far` }));
}

// The middle part of the values, from the share `cut` to 1 - cut; null where there are none.
function middle(values, cut) {
  const sorted = [...values].filter(Number.isFinite).sort((a, b) => a - b), n = sorted.length;
  return n ? [sorted[Math.floor((n - 1) * cut)], sorted[Math.ceil((n - 1) * (1 - cut))]] : null;
}

function extent(values, positive = false) {
  let low = Infinity, high = -Infinity;
  for (const value of values)
    if (Number.isFinite(value) && (!positive || value > 0)) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  return high < low ? [positive ? 0.1 : 0, 1] : [low, high];
}

// Bars of keep.py's histogram.
function bars(histogram, label) {
  const width = 160, height = 48, n = histogram.bars.length, w = width / n;
  const rects = [...histogram.bars].map((bar, i) => {
    const h = (bar / 255) * (height - 2);
    return bar ? svg("rect", { x: i * w + 0.5, y: height - h, width: w - 1, height: h, class: "bar" }) : null;
  });
  const { low, high } = histogram, zero = low < 0 && high > 0 ? ((0 - low) / (high - low)) * width : null;
  const words = `${label}: from ${short(low)} to ${short(high)}, mean ${short(histogram.mean)}`;
  return el("figure", { className: "histogram" },
    picture(width, height, words,
      zero !== null && svg("line", { x1: zero, x2: zero, y1: 0, y2: height, class: "zero-line" }),
      ...rects,
      svg("line", { x1: 0, x2: width, y1: height - 0.5, y2: height - 0.5, class: "axis" })),
    el("figcaption", {}, el("span", {}, short(low)), el("span", {}, short(high)), el("span", { className: "mean" }, `mean ${short(histogram.mean)}`)));
}

// A chart of curves over steps, with axes, a cursor, and options:
//   curves: [{values, first, class}] (a value per step) or [{points: [[step, value]], class}]
//   level: a dashed line to reach; band: {low, high, first} a stripe; log: a logarithmic axis of values
//   range: of the axis, if outliers would flatten the other values: arrowheads at its edge mark values beyond it
function stepChart({ curves, label, first, last, cursor, level = null, band = null, log = false, range = null, height = 130 }) {
  const width = 460, bottom = height - 20;
  const all = curves.flatMap((c) => (c.values ? [...c.values] : c.points.map((p) => p[1])));
  if (level !== null) all.push(level);
  let [low, high] = range || extent(all, log);
  if (!(high - low > 1e-12 * Math.max(Math.abs(low), Math.abs(high)))) [low, high] = log ? [low / 2, high * 2] : [low - Math.abs(low || 1) / 2, high + Math.abs(high || 1) / 2];
  const y = axis(low, high, bottom, 8, log), levels = labelled(ticks(y, 3)), left = Math.max(52, room(levels) * (innerWidth > 760 ? 1 : 1.35)); // as in page.css
  const x = axis(first, Math.max(last, first + 1), left, width - 8);
  const clip = `clip-${stepChart.count = (stepChart.count || 0) + 1}`;
  const drawn = curves.map((c) => path(c.values ? dense(c.values, c.first, x, y) : c.points.map(([s, v]) => [x(s), log && v <= 0 ? NaN : y(v)]), { class: c.class }));
  const dots = curves.filter((c) => c.points && c.points.length < 60).flatMap((c) =>
    c.points.filter(([, v]) => Number.isFinite(v)).map(([s, v]) => svg("circle", { cx: x(s), cy: y(v), r: 2.5, class: `${c.class} dot` })));
  const stripe = band && path([...dense(band.high, band.first, x, y), ...dense(band.low, band.first, x, y).reverse()], { class: "band", fill: "" });
  const beyond = range ? curves.filter((c) => c.values).flatMap((c) => outside(c, x, low, high, bottom)) : [];
  return picture(width, height, label, ...beyond,
    svg("clipPath", { id: clip }, svg("rect", { x: left, y: 4, width: width - left - 4, height: bottom - 2 })),
    ...levels.map(([v]) => svg("line", { x1: left, x2: width - 8, y1: y(v), y2: y(v), class: "grid" })),
    ...levels.map(([v, words]) => text(left - 5, y(v) + 3.5, words, { "text-anchor": "end" })),
    ...stepTicks(x, 5).map((v) => text(x(v), height - 5, v.toLocaleString("en"), { "text-anchor": x(v) > width - 40 ? "end" : "middle" })),
    svg("g", { "clip-path": `url(#${clip})` }, stripe, ...drawn, ...dots,
      level !== null && svg("line", { x1: left, x2: width - 8, y1: y(level), y2: y(level), class: "level" })),
    svg("line", { x1: left, x2: width - 8, y1: bottom, y2: bottom, class: "axis" }),
    cursor >= first && cursor <= last && svg("line", { x1: x(cursor), x2: x(cursor), y1: 4, y2: bottom, class: "cursor" }));
}
