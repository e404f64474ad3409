// An integer network that runs by the WebAssembly build of the C runtime, and files as its inputs: no document is needed.
"use strict";

const bytesOf = text => Uint8Array.from(atob(text), letter => letter.charCodeAt(0));

// How many values a shape has.
const sizeOf = shape => shape.reduce((product, side) => product * side, 1);

// A network in the module `runtime`, from the bytes of formats/wasm.py. `model.layers` are those with neurons: which layer
// of the runtime each is, its number of neurons, and whether it fires.
class Network {
  constructor(runtime, image, model) {
    this.runtime = runtime;
    this.model = model;
    const place = runtime.image(image.length);
    if (!place) throw new Error("the browser has no memory for this network");
    new Uint8Array(runtime.memory.buffer, place, image.length).set(image);
    if (!runtime.load()) throw new Error("the browser has no memory for this network");
    this.size = sizeOf(model.inShape);
  }

  static async load(wasm, image, model) {
    const { instance } = await WebAssembly.instantiate(wasm, {});
    return new Network(instance.exports, image, model);
  }

  // Begin with a sample: bytes [inputs] that are the same in every step, or [steps][inputs].
  start(sample) {
    this.sample = sample;
    this.steps = this.model.constant ? this.model.steps : sample.length / this.size;
    this.now = 0;
    this.runtime.start();
  }

  // Take one step.
  step() {
    const first = this.model.constant ? 0 : this.now * this.size;
    this.inputs().set(this.sample.subarray(first, first + this.size));
    this.runtime.step();
    this.now++;
  }

  inputs() { return new Uint8Array(this.runtime.memory.buffer, this.runtime.inputs(), this.size); }

  // The spikes of a layer in the last step, or its membranes if it does not fire. Read them before the next step.
  outputs({ number, neurons, fires }) {
    const memory = this.runtime.memory.buffer;
    if (fires) return new Uint8Array(memory, this.runtime.spikes(number), neurons);
    return new Int32Array(memory, this.runtime.membranes(number), neurons);
  }

  // Synaptic operations of a layer in the last step.
  operations({ number }) { return this.runtime.operations(number); }

  // Run a whole sample, and return what the outputs add up to.
  run(sample) {
    const last = this.model.layers.at(-1), totals = new Float64Array(last.neurons);
    for (this.start(sample); this.now < this.steps;) {
      this.step();
      this.outputs(last).forEach((value, k) => { totals[k] += value; });
    }
    return totals;
  }
}

// The class with the largest total, of equal ones the first.
const best = totals => totals.reduce((found, total, k) => total > totals[found] ? k : found, 0);

// Pixels as spiking_lfp.data.images reads them: grey values as Pillow computes them, scaled as Pillow scales, bilinearly
// after a reduction that leaves three pixels for one. `rgba` are bytes [height][width][4]; the result is [channels][height][width].
function pixels(rgba, width, height, shape) {
  const [channels, rows, columns] = shape;
  const planes = [];
  for (let c = 0; c < channels; c++) {
    const plane = new Uint8Array(width * height);
    for (let k = 0; k < plane.length; k++) {
      const [red, green, blue] = [rgba[4 * k], rgba[4 * k + 1], rgba[4 * k + 2]];
      plane[k] = channels === 1 ? (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16 : rgba[4 * k + c];
    }
    planes.push(scaled(plane, width, height, columns, rows));
  }
  const all = new Uint8Array(channels * rows * columns);
  planes.forEach((plane, c) => all.set(plane, c * rows * columns));
  return all;
}

function scaled(plane, width, height, columns, rows) {
  if (width === columns && height === rows) return plane;
  const byX = Math.trunc(width / columns / 3) || 1, byY = Math.trunc(height / rows / 3) || 1;
  let right = width, bottom = height;
  if (byX > 1 || byY > 1) {
    plane = reduced(plane, width, height, byX, byY);
    [right, bottom] = [Math.fround(width / byX), Math.fround(height / byY)];
    [width, height] = [Math.ceil(width / byX), Math.ceil(height / byY)];
  }
  const across = () => {
    if (columns !== width || right !== columns) plane = along(plane, columns, height, weightsOf(width, right, columns), width, 1);
    width = columns;
  };
  const down = () => {
    if (rows !== height || bottom !== rows) plane = along(plane, width, rows, weightsOf(height, bottom, rows), width, width);
    height = rows;
  };
  // columns are scaled first if that leaves much fewer pixels
  const passes = height - rows > 2 * Math.max(0, width - columns) ? [down, across] : [across, down];
  passes.forEach(pass => pass());
  return plane;
}

// Means of squares of pixels; those at the border have what is left.
function reduced(plane, width, height, byX, byY) {
  const columns = Math.ceil(width / byX), rows = Math.ceil(height / byY), out = new Uint8Array(columns * rows);
  for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
    const right = Math.min(width, (column + 1) * byX), bottom = Math.min(height, (row + 1) * byY);
    const count = (right - column * byX) * (bottom - row * byY);
    let sum = Math.trunc(count / 2);
    for (let y = row * byY; y < bottom; y++) for (let x = column * byX; x < right; x++) sum += plane[y * width + x];
    const share = Math.trunc(Math.fround(2 ** 32 / Math.fround(256 * count)));
    out[row * columns + column] = Math.floor(sum * share / 2 ** 24);
  }
  return out;
}

// For each of `outputs` pixels along an axis of `inputs`, of which those up to `end` are shown: the first one, and weights.
function weightsOf(inputs, end, outputs) {
  const scale = end / outputs, support = Math.max(scale, 1), found = [];
  for (let k = 0; k < outputs; k++) {
    const centre = (k + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(inputs, Math.trunc(centre + support + 0.5));
    const weights = [];
    for (let x = first; x < last; x++) weights.push(Math.max(0, 1 - Math.abs((x - centre + 0.5) * (1 / support))));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    found.push([first, weights.map(weight => Math.trunc(0.5 + (total ? weight / total : weight) * 2 ** 22))]);
  }
  return found;
}

// Weighted sums along an axis: of columns, where neighbours are 1 apart, or of rows, where they are `stride` apart.
function along(plane, columns, rows, weights, width, stride) {
  const out = new Uint8Array(columns * rows);
  for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
    const [first, each] = weights[stride === 1 ? column : row];
    const start = stride === 1 ? row * width + first : first * width + column;
    let sum = 2 ** 21;
    for (let k = 0; k < each.length; k++) sum += plane[start + k * stride] * each[k];
    out[row * columns + column] = Math.min(255, Math.max(0, Math.floor(sum / 2 ** 22)));
  }
  return out;
}

// The arrays of a .npy file along its first axis, if it holds more than one sample of `shape`, as levels of the network.
function arrays(bytes, shape, levels) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const long = bytes[6] > 1, start = long ? 12 : 10;
  const length = long ? view.getUint32(8, true) : view.getUint16(8, true);
  const header = new TextDecoder().decode(bytes.subarray(start, start + length));
  const kind = /'descr':\s*'([^']*)'/.exec(header)?.[1];
  const sides = /'shape':\s*\(([^)]*)\)/.exec(header)?.[1].split(",").filter(side => side.trim()).map(Number);
  const reader = {
    "|u1": [1, "getUint8"], "|b1": [1, "getUint8"], "<f4": [4, "getFloat32"], "<f8": [8, "getFloat64"],
    "|i1": [1, "getInt8"], "<i2": [2, "getInt16"], "<i4": [4, "getInt32"], "<u2": [2, "getUint16"], "<u4": [4, "getUint32"],
  }[kind];
  if (!reader || !sides || /'fortran_order':\s*True/.test(header)) {
    throw new Error(`the array is ${kind ?? "of an unknown type"}, expected numbers of up to 8 bytes in the order of C`);
  }
  const grey = shape[0] === 1 && (sides.length === 2 || sides.length === 3) && `${sides.slice(-2)}` === `${shape.slice(1)}`;
  const full = grey ? [...sides.slice(0, -2), 1, ...sides.slice(-2)] : sides;
  const rows = full.length > shape.length ? full[0] : 1;
  if (`${full.slice(-shape.length)}` !== `${shape}` || full.length > shape.length + 1) {
    throw new Error(`the array is [${sides.join(", ")}], expected samples [${shape.join(", ")}]`);
  }
  const [width, name] = reader, first = start + length, size = sizeOf(shape);
  if (bytes.length < first + rows * size * width) throw new Error("the array is not complete");
  const values = Float64Array.from({ length: rows * size }, (_, k) => view[name](first + k * width, true));
  if (kind !== "|u1") {
    if (values.some(value => !(value >= 0 && value <= 1))) {
      throw new Error("values go beyond 0 to 1, which the network takes: scale them as in training");
    }
    const rounded = kind === "<f4" ? Math.fround : value => value;
    values.forEach((value, k) => { values[k] = even(rounded(value * levels)); });
  }
  return Array.from({ length: rows }, (_, row) => Uint8Array.from(values.subarray(row * size, (row + 1) * size)));
}

// Rounded, halves to the even number.
const even = value => Math.abs(value % 1) === 0.5 ? 2 * Math.round(value / 2) : Math.round(value);

// Spikes [steps][channels][height][width] of an N-MNIST file: five bytes an event, bins of equal time.
function recording(bytes, [channels, height, width], steps) {
  const times = [], places = [];
  let later = 0;
  for (let k = 0; k + 5 <= bytes.length; k += 5) {
    const [x, y, high, middle, low] = bytes.subarray(k, k + 5);
    if (y === 240) { later += 8192; continue; }
    if (x >= width || y >= height) throw new Error(`an event is at (${x}, ${y}), the sensor has ${width} × ${height} pixels`);
    times.push((high & 127) * 65536 + middle * 256 + low + later);
    places.push(((channels === 1 ? 0 : high >> 7) * height + y) * width + x);
  }
  if (!times.length || bytes.length % 5) throw new Error("it is no N-MNIST recording: events have five bytes each");
  const first = times.reduce((least, time) => Math.min(least, time)), last = times.reduce((most, time) => Math.max(most, time));
  const size = channels * height * width, spikes = new Uint8Array(steps * size);
  times.forEach((time, k) => { spikes[Math.floor((time - first) * steps / (last - first + 1)) * size + places[k]] = 1; });
  return spikes;
}

// Samples as `spiking-lfp convert` writes them, one after the other; null if the bytes are none.
function converted(bytes, sample, levels) {
  if (!bytes.length || bytes.length % sample || bytes.some(byte => byte > levels)) return null;
  return Array.from({ length: bytes.length / sample }, (_, k) => bytes.slice(k * sample, (k + 1) * sample));
}

// Values 0 to 255 as the encoder makes spikes of them: `code.spikes` has [steps][256] of them, or, where they are random,
// `code.chances` [256].
function encoded(values, code, steps) {
  const spikes = new Uint8Array(steps * values.length);
  for (let t = 0; t < steps; t++) values.forEach((value, k) => {
    spikes[t * values.length + k] = code.spikes ? code.spikes[t * 256 + value] : Number(Math.random() < code.chances[value]);
  });
  return spikes;
}
