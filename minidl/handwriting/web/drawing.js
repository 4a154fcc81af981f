// The sheet to draw on. Strokes are kept as points, so that a digit drawn small or large, in a corner or in the middle,
// can be redrawn like the network's training images: in one size, with its centre of mass at the middle pixel.

const FINE = 10;          // pixels drawn per pixel of the image
const STROKE = 2.3;       // MNIST's strokes, in pixels of the image

class Sheet {
  constructor(canvas, size, frame, changed) {
    Object.assign(this, { canvas, size, frame, changed, strokes: [], pens: new Map() }); // a stroke for each finger that is down
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.pens.delete(event.pointerId));
  }

  // Where the pointer is, in units of the sheet's shorter side.
  point(event) {
    const box = this.canvas.getBoundingClientRect(), side = Math.min(box.width, box.height);
    return [(event.clientX - box.left) / side, (event.clientY - box.top) / side];
  }

  down(event) {
    if (event.button) return; // another than the left one, or than a pen's tip
    this.canvas.setPointerCapture(event.pointerId);
    this.strokes.push([this.point(event)]);
    this.pens.set(event.pointerId, this.strokes.at(-1));
    this.redraw();
  }

  move(event) {
    const pen = this.pens.get(event.pointerId);
    if (!pen) return;
    const all = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    for (const each of all.length ? all : [event]) pen.push(this.point(each));
    this.redraw();
  }

  clear() { this.strokes = []; this.pens.clear(); this.redraw(); }
  undo() { this.strokes.pop(); this.pens.clear(); this.redraw(); }

  redraw() {
    const scale = window.devicePixelRatio || 1, box = this.canvas.getBoundingClientRect();
    this.canvas.width = box.width * scale;
    this.canvas.height = box.height * scale;
    const side = Math.min(this.canvas.width, this.canvas.height);
    paint(this.canvas.getContext("2d"), this.strokes, getComputedStyle(this.canvas).color, side * 0.06, ([x, y]) => [x * side, y * side]);
    this.changed(this.pixels());
  }

  // The image for the network: values from 0 to 1, row by row. null while nothing is drawn.
  pixels() {
    const points = this.strokes.flat();
    if (!points.length) return null;
    const [h, w] = this.size, shorter = Math.min(h, w);
    if (!this.frame) return this.average(([x, y]) => [x * shorter + (w - shorter) / 2, y * shorter + (h - shorter) / 2], STROKE);
    const low = [0, 1].map((k) => Math.min(...points.map((p) => p[k]))), high = [0, 1].map((k) => Math.max(...points.map((p) => p[k])));
    const longer = Math.max(high[0] - low[0], high[1] - low[1], 0.04); // a dot stays a dot
    const scale = (this.frame.box * shorter - STROKE) / longer;
    const middle = [0, 1].map((k) => (low[k] + high[k]) / 2), half = [w / 2, h / 2];
    const place = (shift) => (p) => [0, 1].map((k) => (p[k] - middle[k]) * scale + half[k] + shift[k]);
    const first = this.average(place([0, 0]), STROKE);
    return this.frame.byMass ? this.average(place(offCentre(first, h, w)), STROKE) : first;
  }

  // The strokes drawn large and averaged down; not on a canvas: browsers that hide who you are let a page read only noise.
  average(place, width) {
    const [h, w] = this.size, ink = new Float32Array(h * FINE * w * FINE), pixels = new Float64Array(h * w);
    for (const stroke of this.strokes) {
      const points = stroke.map((p) => place(p).map((v) => v * FINE));
      points.forEach((point, k) => line(ink, w * FINE, points[Math.max(0, k - 1)], point, (width * FINE) / 2));
    }
    ink.forEach((v, i) => { pixels[Math.floor(i / (w * FINE * FINE)) * w + (Math.floor(i / FINE) % w)] += v; });
    return pixels.map((v) => v / FINE ** 2);
  }
}

// Ink on the pixels of an image of this width that are within `radius` of a line, less on those at its edge.
function line(ink, width, [x0, y0], [x1, y1], radius) {
  const dx = x1 - x0, dy = y1 - y0, square = dx * dx + dy * dy || 1, reach = radius + 0.5, height = ink.length / width;
  for (let y = Math.max(0, Math.floor(Math.min(y0, y1) - reach)); y < Math.min(height, Math.max(y0, y1) + reach); y++)
    for (let x = Math.max(0, Math.floor(Math.min(x0, x1) - reach)); x < Math.min(width, Math.max(x0, x1) + reach); x++) {
      const a = x + 0.5 - x0, b = y + 0.5 - y0, along = Math.max(0, Math.min(1, (a * dx + b * dy) / square));
      const inside = reach - Math.sqrt((a - along * dx) ** 2 + (b - along * dy) ** 2);
      if (inside > ink[y * width + x]) ink[y * width + x] = Math.min(1, inside);
    }
}

function paint(context, strokes, colour, width, place) {
  Object.assign(context, { strokeStyle: colour, fillStyle: colour, lineWidth: width, lineCap: "round", lineJoin: "round" });
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  for (const stroke of strokes) {
    context.beginPath();
    const [x, y] = place(stroke[0]);
    context.moveTo(x, y);
    context.lineTo(x + 0.01, y); // a line without length would not be drawn, and a dot would be lost
    for (const point of stroke.slice(1)) context.lineTo(...place(point));
    context.stroke();
  }
}

// The offset from the centre of mass to the middle of the middle pixel: what to add to x and to y.
function offCentre(pixels, h, w) {
  let mass = 0, x = 0, y = 0;
  pixels.forEach((value, i) => {
    mass += value;
    x += value * ((i % w) + 0.5);
    y += value * (Math.floor(i / w) + 0.5);
  });
  return mass ? [Math.floor(w / 2) + 0.5 - x / mass, Math.floor(h / 2) + 0.5 - y / mass] : [0, 0];
}
