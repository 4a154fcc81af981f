// The recordings of this page: decompressing them, and finding the recorded step nearest to a given one.

const ARRAYS = { uint8: Uint8Array, int32: Int32Array, float32: Float32Array, float64: Float64Array };

// The value that pack.py packed: JSON, in which {"$": [type, shape, offset]} stands for an array whose bytes follow it.
async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64.replace(/\s/g, "")), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const data = await new Response(stream).arrayBuffer();
  const length = Number(new DataView(data).getBigUint64(0, true));
  const start = 8 + length;
  const value = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 8, length)));
  return revive(value, data, start);
}

function revive(value, data, start) {
  if (Array.isArray(value)) return value.map((item) => revive(item, data, start));
  if (value === null || typeof value !== "object") return value;
  if (typeof value.$ === "string") return Number(value.$);
  if (value.$) return array(...value.$, data, start);
  for (const key of Object.keys(value)) value[key] = revive(value[key], data, start);
  return value;
}

// The bytes lie in planes, all first bytes before all second bytes: put them back in order.
function array(type, shape, at, data, start) {
  const n = shape.reduce((a, b) => a * b, 1), width = ARRAYS[type].BYTES_PER_ELEMENT;
  const planes = new Uint8Array(data, start + at, n * width);
  const bytes = new Uint8Array(n * width);
  for (let plane = 0, k = 0; plane < width; plane++)
    for (let i = plane; i < n * width; i += width) bytes[i] = planes[k++];
  const result = new ARRAYS[type](bytes.buffer);
  result.shape = shape;
  return result;
}

// The last of these items, which are in order, that is not after the step; undefined if all are.
function upTo(step, items) {
  let found;
  for (const item of items) if (item.step <= step) found = item;
  return found;
}

// A recording, and the queries that the page makes.
class Run {
  constructor(data) {
    Object.assign(this, data);
    this.recorded = this.frames.map((frame) => frame.step);
    let at = 0; // where each parameter's weights start in a term's values
    for (const grid of this.weights) {
      grid.at = at;
      grid.count = grid.outputs.length * grid.inputs.length;
      at += grid.count;
    }
    this.underLens = at;
    this.event = this.switch && this.switch.event;
  }

  // The frame of this step, or the nearest earlier one; the first if there is none.
  frame(step) { return this.nearest(step, () => true); }

  // The same among the frames that have pictures, or that have terms.
  nearest(step, has) {
    const good = this.frames.filter(has);
    return upTo(step, good) || good[0];
  }

  phase(step) {
    let name = this.phases.length ? this.phases[0][1] : "";
    for (const [first, phase] of this.phases) if (first <= step) name = phase;
    return name;
  }

  // The state of the switch's condition at this step: the latest note up to it.
  standing(step) { return upTo(step, this.history); }

  // The momentum of the rule after the switch; 0 if it has none or was not recorded.
  momentumAfter() {
    const frame = this.event && this.frames.find((f) => f.step > this.event.step && f.terms.length);
    return frame?.terms.find((t) => t.words === "momentum")?.value || 0; // SWATS calls it b1
  }

  loss(step) { return this.losses[step - this.first] ?? NaN; }
  rate(step) { return this.rates[step - this.first] ?? NaN; }

  // A weight by its place under the lens: the parameter, the index in it, and its name.
  weight(place) {
    const grid = this.weights.find((g) => place < g.at + g.count);
    const k = place - grid.at, n = grid.inputs.length;
    const output = grid.outputs[Math.floor(k / n)];
    let rest = grid.inputs[k % n];
    const index = [];
    for (let axis = grid.shape.length - 1; axis > 0; axis--) {
      index.unshift(rest % grid.shape[axis]);
      rest = Math.floor(rest / grid.shape[axis]);
    }
    index.unshift(output);
    return { grid, index, name: `${grid.name}[${index.join(", ")}]` };
  }
}

async function loadRuns() {
  if (typeof DecompressionStream === "undefined")
    throw new Error("this browser is too old to decompress the page: use Chrome 97, Safari 16.4, Firefox 113 or later");
  const blobs = [...document.querySelectorAll("script.recording")];
  const data = await Promise.all(blobs.map((blob) => unpack(blob.textContent)));
  return data.map(({ loss, lr, ...rest }) => new Run({ ...rest, losses: loss, rates: lr }));
}
