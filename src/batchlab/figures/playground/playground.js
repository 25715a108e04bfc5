/**
 * The playground: the documented network (2-10-10-1, ReLU, sigmoid, binary cross-entropy) trained in the reader's
 * browser, many runs at once. One self-contained module; it fetches nothing and sends nothing.
 *
 * Use as an anywidget (the default export), or in any page: `mount(element, data)`. What `data` is, says
 * `playground_data` in __init__.py.
 *
 * `engine` is everything that computes. It refers to nothing outside itself, so its own source text can be handed to a
 * Web Worker; where a page refuses such workers, the same code runs on the page's thread in short slices.
 */

// --- what computes: no DOM in here ---------------------------------------------------------------------

function engine() {
  // Where the 151 parameters of one run lie, in Keras's order: kernels as (inputs, units), row by row, then biases.
  const UNITS = 10;
  const [W1, B1, W2, B2, W3, B3, PARAMETERS] = [0, 20, 30, 130, 140, 150, 151];

  // Keras's defaults; "momentum" is SGD with momentum 0.9, as in `helpers.build_model`.
  const MOMENTUM = 0.9;
  const RHO = 0.9;
  const [BETA_1, BETA_2] = [0.9, 0.999];
  const EPSILON = 1e-7;

  /**
   * Random numbers below 1 from a seed and a stream: xoshiro128** (Blackman & Vigna 2018), its state filled
   * by a counter through MurmurHash3's finalizer, as in splitmix. Each stream of a seed goes its own way.
   */
  function randomNumbers(seed, stream) {
    let mixed = (Math.imul(seed + 1, 0x9e3779b9) ^ Math.imul(stream + 1, 0x85ebca6b)) | 0;
    const state = Uint32Array.from({ length: 4 }, () => {
      mixed = (mixed + 0x9e3779b9) | 0;
      let z = mixed;
      z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
      z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
      return z ^ (z >>> 16);
    });
    const rotate = (value, by) => (value << by) | (value >>> (32 - by));
    return () => {
      const result = Math.imul(rotate(Math.imul(state[1], 5), 7), 9) >>> 0;
      const shifted = state[1] << 9;
      state[2] ^= state[0];
      state[3] ^= state[1];
      state[1] ^= state[2];
      state[0] ^= state[3];
      state[2] ^= shifted;
      state[3] = rotate(state[3], 11);
      return result / 4294967296;
    };
  }

  /** Initial weights of the run with this seed: Glorot uniform kernels (Glorot & Bengio 2010), biases of zero. */
  function initialWeights(seed) {
    const random = randomNumbers(seed, 0);
    const weights = new Float64Array(PARAMETERS);
    for (const [from, inputs, outputs] of [[W1, 2, UNITS], [W2, UNITS, UNITS], [W3, UNITS, 1]]) {
      const limit = Math.sqrt(6 / (inputs + outputs));
      for (let i = 0; i < inputs * outputs; i++) weights[from + i] = Math.fround((2 * random() - 1) * limit);
    }
    return weights;
  }

  /** The order of the training rows in one epoch (from 1) of a run: Fisher & Yates, the same at all batch sizes. */
  function rowOrder(seed, epoch, rows) {
    const random = randomNumbers(seed, epoch);
    const order = Uint32Array.from({ length: rows }, (_, i) => i);
    for (let i = rows - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
    return order;
  }

  /** Quantiles of some numbers, linear between two of them as NumPy's default; what is not finite counts as largest. */
  function quantiles(values, shares) {
    const sorted = Float64Array.from(values, (value) => (Number.isFinite(value) ? value : Infinity)).sort();
    return shares.map((share) => {
      const place = share * (sorted.length - 1);
      const [below, above] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
      return below === above ? below : below + (above - below) * (place % 1);
    });
  }

  const crossEntropy = (z, y) => Math.max(z, 0) - z * y + Math.log1p(Math.exp(-Math.abs(z)));
  const sigmoid = (z) => 1 / (1 + Math.exp(-z));

  /**
   * Many runs of the network that differ in their seed alone (0, 1, 2, ...), one update at a time.
   *
   * @param x features, an array of [a, b]; @param y targets, 0 or 1; @param rows how many of them are for training,
   * from the first on; the rest validate. @param weights (run) => 151 numbers. @param order (run, epoch) => the rows'
   * order. Both come from the seeds unless given.
   */
  function createTrainer({ x, y, rows, batchSize, optimizer, learningRate, runs, weights, order }) {
    weights ??= initialWeights;
    order ??= (run, epoch) => rowOrder(run, epoch, rows);
    const all = y.length;
    const features = Float64Array.from(x.flat());
    const targets = Float64Array.from(y);
    // In double precision: rounding then stays far below what Keras's single precision leaves.
    const p = new Float64Array(runs * PARAMETERS);
    const first = new Float64Array(runs * PARAMETERS); // momentum, or the mean of gradients
    const second = new Float64Array(runs * PARAMETERS); // the mean of their squares
    const g = new Float64Array(PARAMETERS);
    const h1 = new Float64Array(UNITS); // what the hidden layers put out, for the row at hand
    const h2 = new Float64Array(UNITS);
    const d2 = new Float64Array(UNITS); // the loss's slopes by the second layer's sums
    for (let run = 0; run < runs; run++) p.set(weights(run), run * PARAMETERS);
    const orders = Array.from({ length: runs });
    const sums = new Float64Array(runs);
    const batchLoss = new Float64Array(runs);
    const updatesPerEpoch = Math.ceil(rows / batchSize);
    const trainer = {
      updatesPerEpoch,
      updates: 0,
      /** Mean loss of the last batch before its update, a run each. */
      batchLoss,
      /** What Keras reports as `loss` of the last whole epoch: the mean over its rows, each seen before its update. */
      epochLoss: null,
      step,
      evaluate,
      logit,
      lastBatch,
      weights: (run) => p.slice(run * PARAMETERS, (run + 1) * PARAMETERS),
      /** Training rows seen so far. */
      rowsSeen: () => seen(trainer.updates),
    };

    function seen(updates) {
      const epochs = Math.floor(updates / updatesPerEpoch);
      return epochs * rows + (updates - epochs * updatesPerEpoch) * batchSize;
    }

    function logit(run, a, b) {
      const o = run * PARAMETERS;
      for (let k = 0; k < UNITS; k++) h2[k] = p[o + B2 + k];
      for (let j = 0; j < UNITS; j++) {
        const sum = p[o + B1 + j] + a * p[o + j] + b * p[o + UNITS + j];
        const h = sum > 0 ? sum : 0;
        h1[j] = h;
        if (h > 0) {
          const w = o + W2 + j * UNITS;
          for (let k = 0; k < UNITS; k++) h2[k] += h * p[w + k];
        }
      }
      let z = p[o + B3];
      for (let k = 0; k < UNITS; k++) {
        const h = h2[k] > 0 ? h2[k] : 0;
        h2[k] = h;
        z += h * p[o + W3 + k];
      }
      return z;
    }

    /** Adds one row's gradient, times `scale`, to `g`; returns the row's loss. */
    function backward(run, row, scale) {
      const o = run * PARAMETERS;
      const a = features[2 * row];
      const b = features[2 * row + 1];
      const z = logit(run, a, b);
      const dz = (sigmoid(z) - targets[row]) * scale;
      g[B3] += dz;
      for (let k = 0; k < UNITS; k++) {
        // ReLU: no slope at or below 0, as in TensorFlow.
        const d = h2[k] > 0 ? dz * p[o + W3 + k] : 0;
        d2[k] = d;
        g[W3 + k] += dz * h2[k];
        g[B2 + k] += d;
      }
      for (let j = 0; j < UNITS; j++) {
        const h = h1[j];
        if (h > 0) {
          const w = W2 + j * UNITS;
          let d = 0;
          for (let k = 0; k < UNITS; k++) {
            g[w + k] += h * d2[k];
            d += p[o + w + k] * d2[k];
          }
          g[j] += a * d;
          g[UNITS + j] += b * d;
          g[B1 + j] += d;
        }
      }
      return crossEntropy(z, targets[row]);
    }

    // Keras's formulas: epsilon inside RMSprop's root, outside Adam's.
    const applyGradient = {
      SGD(o) {
        for (let i = 0; i < PARAMETERS; i++) p[o + i] -= learningRate * g[i];
      },
      momentum(o) {
        for (let i = 0; i < PARAMETERS; i++) {
          first[o + i] = MOMENTUM * first[o + i] - learningRate * g[i];
          p[o + i] += first[o + i];
        }
      },
      RMSprop(o) {
        for (let i = 0; i < PARAMETERS; i++) {
          second[o + i] = RHO * second[o + i] + (1 - RHO) * g[i] * g[i];
          p[o + i] -= (learningRate * g[i]) / Math.sqrt(second[o + i] + EPSILON);
        }
      },
      Adam(o) {
        const t = trainer.updates + 1;
        const alpha = (learningRate * Math.sqrt(1 - BETA_2 ** t)) / (1 - BETA_1 ** t);
        for (let i = 0; i < PARAMETERS; i++) {
          first[o + i] += (g[i] - first[o + i]) * (1 - BETA_1);
          second[o + i] += (g[i] * g[i] - second[o + i]) * (1 - BETA_2);
          p[o + i] -= (alpha * first[o + i]) / (Math.sqrt(second[o + i]) + EPSILON);
        }
      },
    }[optimizer];
    if (!applyGradient) throw new Error(`There is no optimizer ${optimizer}; take SGD, momentum, RMSprop or Adam.`);

    /** One update of every run. */
    function step() {
      const within = trainer.updates % updatesPerEpoch;
      const epoch = Math.floor(trainer.updates / updatesPerEpoch) + 1;
      const from = within * batchSize;
      const size = Math.min(batchSize, rows - from); // the last batch of an epoch may be smaller
      for (let run = 0; run < runs; run++) {
        if (within === 0) {
          orders[run] = order(run, epoch);
          sums[run] = 0;
        }
        g.fill(0);
        let loss = 0;
        for (let i = from; i < from + size; i++) loss += backward(run, orders[run][i], 1 / size);
        applyGradient(run * PARAMETERS);
        sums[run] += loss;
        batchLoss[run] = loss / size;
      }
      trainer.updates += 1;
      if (within === updatesPerEpoch - 1) trainer.epochLoss = sums.map((sum) => sum / rows);
    }

    /** Mean loss over all training rows and over all validation rows with the weights of now, a run each. */
    function evaluate() {
      const [loss, valLoss] = [new Float64Array(runs), new Float64Array(runs)];
      for (let run = 0; run < runs; run++) {
        for (let row = 0; row < all; row++) {
          const one = crossEntropy(logit(run, features[2 * row], features[2 * row + 1]), targets[row]);
          if (row < rows) loss[run] += one / rows;
          else valLoss[run] += one / (all - rows);
        }
      }
      return { loss, valLoss };
    }

    /** The rows behind the last update of a run. */
    function lastBatch(run) {
      if (trainer.updates === 0) return [];
      const from = ((trainer.updates - 1) % updatesPerEpoch) * batchSize;
      return Array.from(orders[run].subarray(from, Math.min(from + batchSize, rows)));
    }

    return trainer;
  }

  /**
   * Plays races: takes messages, trains in slices, and posts frames. A page has at most one frame on its way, so that
   * it is never flooded.
   *
   * Messages: {type: "race", race, settings, data}, {type: "play", rate (updates a second or null), until (updates)},
   * {type: "pause"}, {type: "step"}, {type: "view", view (a run, or -1 for all), grid (points a side), area},
   * {type: "drawn"}.
   */
  function createSession(post, sliceMs) {
    const [FRAME_MS, ALL_RUNS_MS] = [33, 120];
    let [trainer, race, runs, view] = [null, 0, 1, { view: 0, grid: 2, area: [-1, 1, -1, 1] }];
    let [playing, rate, until, started, origin, timer] = [false, null, 0, 0, 0, null];
    let [points, isAwaited, lastFrame, lastGrid, isStale] = [[], false, 0, 0, true];

    // Where the curves get a point: twenty in every power of ten of updates, and the ends of epochs at least 1 % apart.
    let lastPoint = -1;
    function record(isForced) {
      const { updates, updatesPerEpoch } = trainer;
      const isMark = Math.floor(20 * Math.log10(updates)) > Math.floor(20 * Math.log10(updates - 1));
      const isEpoch = updates % updatesPerEpoch === 0 && updates >= 1.01 * lastPoint;
      if (updates === lastPoint) return;
      if (!isForced && !isMark && !isEpoch) return;
      lastPoint = updates;
      const { loss, valLoss } = trainer.evaluate();
      points.push({
        updates,
        epochs: updates / updatesPerEpoch,
        rows: trainer.rowsSeen(),
        loss: Float32Array.from(loss),
        valLoss: Float32Array.from(valLoss),
      });
    }

    function surfaces() {
      const { grid, area } = view;
      const shown = view.view < 0 ? Array.from({ length: runs }, (_, run) => run) : [Math.min(view.view, runs - 1)];
      const logits = new Float32Array(shown.length * grid * grid);
      let at = 0;
      for (const run of shown) {
        for (let row = 0; row < grid; row++) {
          const b = area[2] + ((area[3] - area[2]) * row) / (grid - 1);
          for (let column = 0; column < grid; column++) {
            logits[at++] = trainer.logit(run, area[0] + ((area[1] - area[0]) * column) / (grid - 1), b);
          }
        }
      }
      return { grid, area, isAll: view.view < 0, count: shown.length, logits };
    }

    function frame(isLast) {
      const now = performance.now();
      const message = {
        type: "frame",
        race,
        playing,
        isLast,
        updates: trainer.updates,
        rows: trainer.rowsSeen(),
        epochLoss: trainer.epochLoss,
        batchLoss: Float64Array.from(trainer.batchLoss),
        batch: trainer.lastBatch(Math.min(Math.max(view.view, 0), runs - 1)), // of run 1 where all are shown
        points,
      };
      points = [];
      if (isLast || isStale || view.view >= 0 || now - lastGrid > ALL_RUNS_MS) {
        message.surfaces = surfaces();
        lastGrid = now;
        isStale = false;
      }
      isAwaited = true;
      lastFrame = now;
      post(message, message.surfaces ? [message.surfaces.logits.buffer] : []);
    }

    function slice() {
      timer = null;
      if (!playing) return;
      const begun = performance.now();
      const due = rate === null ? Infinity : origin + Math.floor(((begun - started) / 1000) * rate);
      const target = Math.min(until, due);
      while (trainer.updates < target && performance.now() - begun < sliceMs) {
        trainer.step();
        record(false);
      }
      if (trainer.updates < target && rate !== null && due - trainer.updates > rate) {
        [started, origin] = [performance.now(), trainer.updates]; // cannot keep up: do not owe ever more
      }
      if (trainer.updates >= until) {
        playing = false;
        record(true);
        frame(true);
        return;
      }
      if (!isAwaited && performance.now() - lastFrame >= FRAME_MS) frame(false);
      timer = setTimeout(slice, rate !== null && trainer.updates >= target ? 8 : 0);
    }

    function stop() {
      playing = false;
      clearTimeout(timer);
    }

    return {
      stop,
      handle(message) {
        if (message.type === "race") {
          stop();
          ({ race } = message);
          ({ runs } = message.settings);
          trainer = createTrainer({ ...message.data, ...message.settings });
          [points, lastPoint, isStale] = [[], -1, true];
          record(true);
          frame(true);
        } else if (message.type === "play") {
          stop();
          ({ rate, until } = message);
          [playing, started, origin] = [true, performance.now(), trainer.updates];
          slice();
        } else if (message.type === "pause") {
          stop();
          record(true);
          frame(true);
        } else if (message.type === "step") {
          stop();
          trainer.step();
          record(true);
          frame(true);
        } else if (message.type === "view") {
          view = message;
          isStale = true;
          if (trainer && !playing) frame(true);
        } else if (message.type === "drawn") {
          isAwaited = false;
        }
      },
    };
  }

  return { createTrainer, createSession, initialWeights, rowOrder, quantiles };
}

export const { createTrainer, createSession, initialWeights, rowOrder, quantiles } = engine();

/** Where the session runs: in a worker made from the engine's own text, or else on the page in short slices. */
function connect(receive, computes) {
  const [WORKER_MS, PAGE_MS] = [40, 8];
  let [worker, local, waiting] = [null, null, []];

  const onPage = () => {
    if (local) return;
    worker?.terminate();
    worker = null;
    local = createSession((message) => setTimeout(() => receive(message), 0), PAGE_MS);
    computes("page");
    waiting.splice(0).forEach(local.handle);
  };
  try {
    const text = `const session = (${engine})().createSession((message, moved) => postMessage(message, moved), ${WORKER_MS});
      onmessage = (event) => session.handle(event.data);
      postMessage({ type: "ready" });`;
    const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
    worker = new Worker(url);
    worker.onmessage = ({ data }) => {
      if (data.type !== "ready") return receive(data);
      URL.revokeObjectURL(url);
      computes("worker");
      waiting.splice(0).forEach((message) => worker.postMessage(message));
      waiting = null;
    };
    worker.onerror = (event) => {
      if (!waiting) return; // it did start: the error is the console's to tell
      event.preventDefault();
      onPage();
    };
  } catch {
    onPage(); // the page's policy refuses workers at once
  }
  return {
    send(message) {
      if (local) local.handle(message);
      else if (waiting) waiting.push(message);
      else worker.postMessage(message);
    },
    close() {
      worker?.terminate();
      local?.stop();
    },
  };
}

// --- what is seen -------------------------------------------------------------------------------------

const DOCUMENTED = [1, 32, 250];
const KERAS_RATES = { SGD: 0.01, momentum: 0.01, RMSprop: 0.001, Adam: 0.001 };
const RATES = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1];
const RUNS = [1, 2, 4, 8, 16, 32, 64];
const BUDGETS = { epochs: [10, 30, 60, 200, 500], updates: [120, 1200, 12000] };
const PACES = {
  "3 updates/s": () => 3,
  "30 updates/s": () => 30,
  "1 epoch/s": (updatesPerEpoch) => updatesPerEpoch,
  "10 epochs/s": (updatesPerEpoch) => 10 * updatesPerEpoch,
  "full speed": () => null,
};
const AXES = {
  epochs: { of: (point) => point.epochs, label: "epochs", isLog: false },
  updates: { of: (point) => point.updates, label: "updates (logarithmic)", isLog: true },
  rows: { of: (point) => point.rows, label: "rows seen (logarithmic)", isLog: true },
};
const LOSSES = { loss: "Training loss", valLoss: "Validation loss" };
const BAND = [0.025, 0.5, 0.975];
const [GRID_ONE, GRID_ALL] = [49, 29];
const ANNOUNCE_MS = 5000;

const whole = (number) => Math.round(number).toLocaleString("en-US");
const nats = (number) => (Number.isFinite(number) ? number.toFixed(3) : "not finite");
const percent = (share) => `${Math.round(100 * share)} %`;
const counted = (number, noun) => `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;

/** An element: `h("button", { type: "button" }, "Play")`; what begins with "on" listens. */
function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** A labelled list of choices: [value, text] pairs, or groups of them: [title, pairs]. */
function choice(label, choices, value, onchange) {
  const options = (pairs) => pairs.map(([key, text]) => h("option", { value: key }, text));
  const select = h("select", { onchange: () => onchange(select.value) });
  select.fill = (items, chosen) => {
    const isGrouped = items.length > 0 && Array.isArray(items[0][1]);
    select.replaceChildren(
      ...(isGrouped ? items.map(([title, pairs]) => h("optgroup", { label: title }, ...options(pairs))) : options(items)),
    );
    select.value = chosen;
  };
  select.fill(choices, value);
  return { select, label: h("label", {}, h("span", {}, label), select) };
}

/** Sharp at any pixel density; returns the context and the size in CSS pixels. */
function ready(canvas) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const scale = window.devicePixelRatio || 1;
  const [w, t] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== t) Object.assign(canvas, { width: w, height: t });
  const context = canvas.getContext("2d");
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** Round numbers between two ends, about `count` of them. */
function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

const short = (number) => (number >= 1e6 ? `${number / 1e6}M` : number >= 1000 ? `${number / 1000}k` : `${+number.toFixed(4)}`);

/** Draws the line where values on a grid cross a level (marching squares), as one path. */
function traceContour(context, values, from, grid, level, place) {
  context.beginPath();
  for (let row = 0; row + 1 < grid; row++) {
    for (let column = 0; column + 1 < grid; column++) {
      const at = from + row * grid + column;
      const corners = [
        [column, row, values[at] - level],
        [column + 1, row, values[at + 1] - level],
        [column + 1, row + 1, values[at + grid + 1] - level],
        [column, row + 1, values[at + grid] - level],
      ];
      const isAbove = corners[0][2] > 0;
      if (corners.every((corner) => corner[2] > 0 === isAbove)) continue;
      const crossings = [];
      for (let side = 0; side < 4; side++) {
        const [c1, r1, v1] = corners[side];
        const [c2, r2, v2] = corners[(side + 1) % 4];
        if (v1 > 0 !== v2 > 0) crossings.push(place(c1 + ((c2 - c1) * v1) / (v1 - v2), r1 + ((r2 - r1) * v1) / (v1 - v2)));
      }
      for (let i = 0; i + 1 < crossings.length; i += 2) {
        context.moveTo(...crossings[i]);
        context.lineTo(...crossings[i + 1]);
      }
    }
  }
}

const styleOf = (root) => {
  const style = getComputedStyle(root);
  const read = (name) => style.getPropertyValue(`--bl-${name}`).trim();
  return { ink: read("ink"), muted: read("muted"), grid: read("grid"), panel: read("panel"), lit: read("lit"), font: `12px ${style.fontFamily}` };
};

/** The plane of age and salary: the network's probability as a tint, its boundary, the rows, and the batch lit up. */
function drawBoundary(canvas, theme, { data, surfaces, batch, colour, area }) {
  const { context, width, height } = ready(canvas);
  const [left, right, top, bottom] = [46, 8, 8, 38];
  const [w, t] = [width - left - right, height - top - bottom];
  const px = (a) => left + ((a - area[0]) / (area[1] - area[0])) * w;
  const py = (b) => top + t - ((b - area[2]) / (area[3] - area[2])) * t;
  context.font = theme.font;
  context.fillStyle = theme.panel;
  context.fillRect(left, top, w, t);
  context.save();
  context.beginPath();
  context.rect(left, top, w, t);
  context.clip();
  if (surfaces) {
    const { grid, count, logits } = surfaces;
    const cells = grid * grid;
    const mean = new Float32Array(cells);
    for (let i = 0; i < count * cells; i++) mean[i % cells] += 1 / (1 + Math.exp(-logits[i])) / count;
    const [dx, dy] = [w / (grid - 1), t / (grid - 1)];
    const place = (column, row) => [left + column * dx, top + t - row * dy];
    const tint = document.createElement("canvas");
    tint.width = tint.height = grid;
    const image = new ImageData(grid, grid);
    const [red, green, blue] = [1, 3, 5].map((from) => parseInt(colour.slice(from, from + 2), 16));
    for (let i = 0; i < cells; i++) {
      const row = grid - 1 - Math.floor(i / grid);
      image.data.set([red, green, blue, Math.round(150 * mean[i])], 4 * (row * grid + (i % grid)));
    }
    tint.getContext("2d").putImageData(image, 0, 0);
    context.drawImage(tint, left - dx / 2, top - dy / 2, w + dx, t + dy);
    context.strokeStyle = colour;
    if (surfaces.isAll) {
      context.globalAlpha = Math.max(0.25, 1 / Math.sqrt(count));
      context.lineWidth = 1;
      for (let run = 0; run < count; run++) {
        traceContour(context, logits, run * cells, grid, 0, place);
        context.stroke();
      }
      context.globalAlpha = 1;
    }
    traceContour(context, mean, 0, grid, 0.5, place);
    context.lineCap = "round";
    context.strokeStyle = "#fcfcfa"; // light in the dark too, where the line alone would be dim
    context.lineWidth = 6;
    context.stroke();
    context.strokeStyle = colour;
    context.lineWidth = 3;
    context.stroke();
  }
  const shape = (i, radius) => {
    const [x, y] = [px(data.x[i][0]), py(data.x[i][1])];
    context.beginPath();
    if (i < data.rows) {
      context.arc(x, y, radius, 0, 2 * Math.PI);
    } else {
      const r = radius * 1.25;
      context.moveTo(x, y - r);
      context.lineTo(x + r, y);
      context.lineTo(x, y + r);
      context.lineTo(x - r, y);
      context.closePath();
    }
  };
  const radius = width < 360 ? 2.6 : 3.2;
  const lit = new Set(batch);
  for (const i of lit) {
    shape(i, radius + (lit.size === 1 ? 6 : 3));
    context.fillStyle = theme.lit;
    context.fill();
    context.strokeStyle = theme.ink;
    context.lineWidth = lit.size === 1 ? 2 : 0.8;
    context.stroke();
  }
  context.lineWidth = 1.2;
  for (let i = 0; i < data.y.length; i++) {
    shape(i, radius);
    context.globalAlpha = i < data.rows ? 0.9 : 0.55;
    const ink = lit.has(i) ? "#111" : theme.ink;
    context.strokeStyle = ink;
    context.fillStyle = data.y[i] ? ink : lit.has(i) ? theme.lit : theme.panel;
    context.fill();
    context.stroke();
  }
  context.restore();
  frameAxes(context, theme, { left, top, w, t });
  context.fillStyle = theme.ink;
  data.axes.forEach(({ label, mean, deviation, unit }, axis) => {
    const ends = [2 * axis, 2 * axis + 1].map((i) => (area[i] * deviation + mean) / unit);
    for (const tick of ticks(...ends, axis ? 6 : w / 60)) {
      const scaled = (tick * unit - mean) / deviation;
      context.textAlign = axis ? "right" : "center";
      context.textBaseline = axis ? "middle" : "top";
      if (axis) context.fillText(`${tick}`, left - 6, py(scaled));
      else context.fillText(`${tick}`, px(scaled), top + t + 5);
    }
    if (axis) sideways(context, label, 10, top + t / 2);
    else context.fillText(label, left + w / 2, height - 14);
  });
}

function frameAxes(context, theme, { left, top, w, t }) {
  context.strokeStyle = theme.muted;
  context.lineWidth = 1;
  context.beginPath();
  context.moveTo(left + 0.5, top);
  context.lineTo(left + 0.5, top + t + 0.5);
  context.lineTo(left + w, top + t + 0.5);
  context.stroke();
}

function sideways(context, text, x, y) {
  context.save();
  context.translate(x, y);
  context.rotate(-Math.PI / 2);
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(text, 0, 0);
  context.restore();
}

/** One loss of all races over the chosen budget: medians with bands, the shown run as a thin line. */
function drawCurves(canvas, theme, { races, current, key, axis, end, budget, run, colours, top: highest }) {
  const { context, width, height } = ready(canvas);
  const [left, right, top, bottom] = [46, 34, 8, 38];
  const [w, t] = [width - left - right, height - top - bottom];
  const { of, label, isLog } = AXES[axis];
  const x = isLog ? (v) => left + (Math.log(v) / Math.log(Math.max(end, 10))) * w : (v) => left + (v / end) * w;
  const y = (v) => top + t - (Math.min(v, 2 * highest) / highest) * t;
  context.font = theme.font;
  context.textBaseline = "middle";
  context.textAlign = "right";
  context.lineWidth = 1;
  for (const tick of ticks(0, highest, 4)) {
    context.strokeStyle = theme.grid;
    context.beginPath();
    context.moveTo(left, y(tick));
    context.lineTo(left + w, y(tick));
    context.stroke();
    context.fillStyle = theme.ink;
    context.fillText(`${+tick.toFixed(2)}`, left - 6, y(tick));
  }
  context.textAlign = "center";
  context.textBaseline = "top";
  const decades = Array.from({ length: Math.floor(Math.log10(Math.max(end, 10)) + 1e-9) + 1 }, (_, i) => 10 ** i);
  for (const tick of isLog ? decades : ticks(0, end, w / 60)) context.fillText(short(tick), x(tick), top + t + 5);
  context.fillText(label, left + w / 2, height - 14);
  sideways(context, "nats", 10, top + t / 2);

  context.save();
  context.beginPath();
  context.rect(left, top - 2, w + 2, t + 2);
  context.clip();
  if (budget !== null) {
    context.setLineDash([2, 4]);
    context.strokeStyle = theme.muted;
    context.beginPath();
    context.moveTo(x(budget), top);
    context.lineTo(x(budget), top + t);
    context.stroke();
    context.setLineDash([]);
  }
  const ends = [];
  for (const race of races) {
    const points = race.points.filter((point) => of(point) >= (isLog ? 1 : 0));
    if (!points.length) continue;
    const colour = colours[race.settings.batchSize];
    const line = (value) => {
      context.beginPath();
      points.forEach((point, i) => context[i ? "lineTo" : "moveTo"](x(of(point)), y(value(point))));
    };
    if (race.settings.runs > 1) {
      context.beginPath();
      points.forEach((point) => context.lineTo(x(of(point)), y(point.bands[key][2])));
      points.toReversed().forEach((point) => context.lineTo(x(of(point)), y(point.bands[key][0])));
      context.globalAlpha = 0.2;
      context.fillStyle = colour;
      context.fill();
      context.globalAlpha = 1;
    }
    context.strokeStyle = colour;
    context.lineJoin = "round";
    context.lineWidth = race === current ? 2.6 : 1.8;
    line((point) => point.bands[key][1]);
    context.stroke();
    if (race === current && run >= 0 && race.settings.runs > 1) {
      context.strokeStyle = theme.ink;
      context.lineWidth = 0.9;
      line((point) => point[key][run]);
      context.stroke();
    }
    const last = points.at(-1);
    ends.push({ text: `${race.settings.batchSize}`, x: x(of(last)), y: y(last.bands[key][1]), colour, last });
  }
  context.restore();
  frameAxes(context, theme, { left, top, w, t });
  if (!ends.length) {
    context.fillStyle = theme.muted;
    context.fillText("Press Play, or race three batch sizes.", left + w / 2, top + t / 2);
  }
  // Each curve is named at its end; names that would overlap move apart.
  ends.sort((one, other) => one.y - other.y);
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.font = `600 ${theme.font}`;
  let lowest = -Infinity;
  for (const each of ends) {
    const at = Math.min(Math.max(each.y, lowest + 14, top + 6), top + t - 4);
    lowest = at;
    context.beginPath();
    context.arc(each.x, each.y, 3, 0, 2 * Math.PI);
    context.fillStyle = each.colour;
    if (each.y >= top) context.fill();
    context.lineWidth = 3;
    context.strokeStyle = theme.panel;
    context.strokeText(each.text, each.x + 7, at);
    context.fillStyle = theme.ink;
    context.fillText(each.text, each.x + 7, at);
  }
}

// --- the whole of it ----------------------------------------------------------------------------------

/**
 * Builds the playground inside an element and returns a function that takes it away again.
 *
 * @param data {x, y, rows, colours, axes, source}, as `playground_data` in __init__.py makes it.
 */
export function mount(element, data) {
  const area = [0, 1].flatMap((axis) => {
    const values = data.x.map((row) => row[axis]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    return [low - 0.04 * (high - low), high + 0.04 * (high - low)];
  });
  const settings = { batchSize: 32, optimizer: "RMSprop", learningRate: KERAS_RATES.RMSprop, runs: 64 };
  const seen = { axis: "epochs", view: -1, budget: "epochs 60", pace: "10 epochs/s" };
  const kept = new Map(); // earlier races by batch size
  let current; // the race at hand: {id, settings, points, updates, rows, ...}
  let [queue, playing, isDrawing, lastDrawn, lastSaid, lastTable] = [[], false, false, 0, 0, -Infinity];
  const calm = matchMedia("(prefers-reduced-motion: reduce)");

  // The elements.
  const play = h("button", { type: "button", class: "bl-main", onclick: () => (playing ? pause() : start()) }, "Play");
  const step = h("button", { type: "button", onclick: stepOnce }, "Step");
  const restart = h("button", { type: "button", onclick: startAnew }, "Restart");
  const three = h("button", { type: "button", onclick: raceAll }, `Race ${DOCUMENTED.join(", ")}`);
  const clear = h("button", { type: "button", onclick: clearRaces }, "Clear races");
  const set = (name, convert) => (value) => {
    settings[name] = convert(value);
    if (name === "optimizer") {
      settings.learningRate = KERAS_RATES[value];
      rate.select.fill(rates(), settings.learningRate);
    }
    startAnew();
  };
  const rates = () =>
    RATES.map((value) => [value, value === KERAS_RATES[settings.optimizer] ? `${value} (Keras)` : `${value}`]);
  const sizes = Object.keys(data.colours).map(Number).map((size) => [size, size === data.rows ? `${size} (all rows)` : `${size}`]);
  const size = choice("Batch size", sizes, settings.batchSize, set("batchSize", Number));
  const optimizer = choice(
    "Optimizer",
    Object.keys(KERAS_RATES).map((name) => [name, name === "momentum" ? "SGD, momentum 0.9" : name]),
    settings.optimizer,
    set("optimizer", String),
  );
  const rate = choice("Learning rate", rates(), settings.learningRate, set("learningRate", Number));
  const runs = choice("Runs", RUNS.map((count) => [count, `${count}`]), settings.runs, set("runs", Number));
  const budgets = Object.entries(BUDGETS).map(([unit, amounts]) => [
    `equal ${unit}`,
    amounts.map((amount) => [`${unit} ${amount}`, `${whole(amount)} ${unit}`]),
  ]);
  const budget = choice("Stop after", budgets, seen.budget, (value) => {
    seen.budget = value;
    goOn();
    change();
  });
  const pace = choice("Pace", Object.keys(PACES).map((name) => [name, name]), seen.pace, (value) => {
    seen.pace = value;
    goOn();
  });
  const view = choice("Show", [], 0, (value) => {
    seen.view = Number(value);
    sendView();
    change();
  });
  const axis = choice("Race by", Object.keys(AXES).map((name) => [name, name]), seen.axis, (value) => {
    seen.axis = value;
    change();
    say(`The curves now run over ${value}.`);
  });
  const canvas = (kind, label) => h("canvas", { role: "img", class: `bl-${kind}`, "aria-label": label });
  const plane = canvas("plane", "Decision boundary, not drawn yet");
  const curves = { loss: canvas("curves", LOSSES.loss), valLoss: canvas("curves", LOSSES.valLoss) };
  const status = h("p", { class: "bl-status" });
  const detail = h("p", { class: "bl-detail" });
  const live = h("p", { role: "status", "aria-live": "polite", class: "bl-unseen" });
  const caption = h("p", { class: "bl-caption" });
  const body = h("tbody");
  const heads = ["Batch size", ...Object.values(LOSSES), "Measured at", "Trained with"];
  const table = h(
    "table",
    {},
    h("thead", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head)))),
    body,
  );
  const key = (kind, text) => h("span", {}, h("i", { class: `bl-key bl-${kind}`, "aria-hidden": "true" }), text);
  const litKey = key("lit", "");
  const lineKey = key("line", "");
  const root = h(
    "div",
    {
      class: "batchlab-playground",
      role: "group",
      "aria-label": "Playground: the documented network, trained in this browser",
      // The controls keep their own keys where a page has other uses for them, as JupyterLab's notebooks do.
      "data-lm-suppress-shortcuts": "true",
      onkeydown: (event) => {
        if (event.key !== "Tab" && !event.ctrlKey && !event.metaKey && !event.altKey) event.stopPropagation();
      },
    },
    h("p", { class: "bl-source" }, data.source),
    h("div", { class: "bl-row" }, play, step, restart, three, clear),
    h("div", { class: "bl-row bl-settings" }, ...[size, optimizer, rate, runs, budget, pace].map((each) => each.label)),
    h(
      "div",
      { class: "bl-panels" },
      h(
        "figure",
        {},
        h("figcaption", {}, h("b", {}, "Who will buy?"), view.label),
        plane,
        h(
          "p",
          { class: "bl-legend" },
          key("bought", "bought"),
          key("not", "did not"),
          key("held", "validation row"),
          litKey,
          lineKey,
        ),
      ),
      h(
        "div",
        { class: "bl-charts" },
        h("figure", {}, h("figcaption", {}, h("b", {}, LOSSES.loss), axis.label), curves.loss),
        h("figure", {}, h("figcaption", {}, h("b", {}, LOSSES.valLoss)), curves.valLoss),
      ),
    ),
    status,
    detail,
    caption,
    h("div", { class: "bl-table", role: "region", tabindex: "0", "aria-label": "Table of the races" }, table),
    live,
    h(
      "details",
      {},
      h("summary", {}, "What this is, and how to read it"),
      h(
        "p",
        {},
        "The network has 2 inputs, two layers of 10 ReLU units and one sigmoid output: 151 parameters, trained on ",
        `binary cross-entropy by Keras’s formulas and defaults. Run n draws its initial weights (Glorot uniform) and its `,
        "row orders from seed n, so all batch sizes start from the same weights and shuffle in the same way. A line is ",
        "the median of the runs, its band holds 95 % of them, a thin dark line is the run that is shown. Both losses are ",
        `measured with the weights of that moment, over all ${data.rows} training rows and all `,
        `${data.y.length - data.rows} validation rows; Keras instead reports the mean over an epoch’s batches, each `,
        "before its update, which stands below the charts.",
      ),
      h(
        "p",
        {},
        "A race has to name its budget. At equal epochs every batch size has seen as many rows, and small ones have made ",
        "many more updates; at equal updates large ones have seen many more rows. Change “Race by” and “Stop after”, and ",
        "give each batch size a learning rate that suits it, before you call a winner.",
      ),
    ),
  );
  element.append(root);

  // The races.
  const updatesPerEpoch = (batchSize) => Math.ceil(data.rows / batchSize);
  const until = () => {
    const [unit, amount] = seen.budget.split(" ");
    return unit === "epochs" ? amount * updatesPerEpoch(settings.batchSize) : Number(amount);
  };
  const shownRaces = () => {
    const others = [...kept.values()].filter(
      (race) => current.updates === 0 || race.settings.batchSize !== current.settings.batchSize,
    );
    const all = current.updates > 0 ? [...others, current] : others;
    return all.sort((one, other) => one.settings.batchSize - other.settings.batchSize);
  };
  const computer = connect(receive, (where) => (root.dataset.computes = where));

  function begin() {
    if (current?.updates > 0) kept.set(current.settings.batchSize, current);
    current = { id: (current?.id ?? 0) + 1, settings: { ...settings }, points: [], updates: 0, rows: 0, batch: [] };
    showPlaying(false);
    const views = Array.from({ length: settings.runs }, (_, run) => [run, `run ${run + 1}`]);
    if (settings.runs > 1) views.unshift([-1, "all runs"]);
    seen.view = settings.runs > 1 ? Math.min(seen.view, settings.runs - 1) : 0;
    view.select.fill(views, seen.view);
    sendView();
    const { x, y, rows } = data;
    computer.send({ type: "race", race: current.id, settings: current.settings, data: { x, y, rows } });
  }

  function startAnew() {
    queue = [];
    begin();
    say(`A new race is ready: ${described(current)}.`);
  }

  function start() {
    if (current.updates >= until()) begin();
    computer.send({ type: "play", rate: PACES[seen.pace](updatesPerEpoch(settings.batchSize)), until: until() });
    showPlaying(true);
    say(`Playing: ${described(current)}.`);
  }

  function goOn() {
    if (!playing) return;
    if (current.updates < until()) start();
    else pause();
  }

  function pause() {
    queue = [];
    computer.send({ type: "pause" });
    showPlaying(false);
  }

  function stepOnce() {
    queue = [];
    computer.send({ type: "step" });
    showPlaying(false);
  }

  function raceAll() {
    queue = [...DOCUMENTED];
    next();
  }

  function next() {
    settings.batchSize = queue.shift();
    size.select.value = settings.batchSize;
    begin();
    start();
  }

  function clearRaces() {
    current.updates = 0; // so that it is not kept
    kept.clear();
    startAnew();
  }

  function sendView() {
    computer.send({ type: "view", view: seen.view, grid: seen.view < 0 ? GRID_ALL : GRID_ONE, area });
  }

  function showPlaying(now) {
    playing = now;
    play.textContent = now ? "Pause" : "Play";
    root.dataset.state = now ? "playing" : "paused";
  }

  function receive(message) {
    if (message.race !== current.id) {
      computer.send({ type: "drawn" });
      return;
    }
    for (const point of message.points) {
      point.bands = { loss: quantiles(point.loss, BAND), valLoss: quantiles(point.valLoss, BAND) };
      current.points.push(point);
    }
    const { updates, rows, batch, batchLoss, epochLoss } = message;
    Object.assign(current, { updates, rows, batch, batchLoss, epochLoss });
    if (message.surfaces) current.surfaces = message.surfaces;
    const isOver = message.isLast && playing && updates >= until();
    if (message.isLast && !message.playing && (isOver || !playing)) {
      if (isOver) showPlaying(false);
      const said = `${isOver ? "Finished" : "Paused"}. ${summary()}`;
      if (isOver && queue.length) next();
      if (updates > 0) say(isOver && playing ? `${said} Next: ${described(current)}.` : said);
      lastTable = -Infinity;
    }
    draw();
  }

  // The words.
  const described = ({ settings: { batchSize, optimizer: name, learningRate, runs: count } }) =>
    `batch size ${batchSize}, ${name === "momentum" ? "SGD with momentum" : name}, learning rate ${learningRate}, ${counted(count, "run")}`;
  const figure = ([low, median, high], count) =>
    count > 1 ? `${nats(median)} (${nats(low)} to ${nats(high)})` : nats(median);

  function progress() {
    const per = updatesPerEpoch(current.settings.batchSize);
    const inside = current.updates % per;
    const epochs = Math.floor(current.updates / per);
    const within = inside ? `${whole(epochs)} epochs and ${inside} of ${per} updates` : counted(epochs, "epoch");
    return `${within}, ${counted(current.updates, "update")}, ${counted(current.rows, "row")} seen`;
  }

  function summary() {
    const last = current.points.at(-1);
    const { runs: count, batchSize } = current.settings;
    const losses = Object.entries(LOSSES).map(([name, text]) => `${text.toLowerCase()} ${figure(last.bands[name], count)}`);
    const spread = count > 1 ? `; median and 95 % band of ${count} runs` : "";
    return `Batch size ${batchSize}, ${progress()}: ${losses.join(", ")} nats${spread}.`;
  }

  function say(text) {
    live.textContent = text;
    lastSaid = performance.now();
  }

  function write() {
    status.textContent = current.points.length ? summary() : "";
    const run = Math.max(seen.view, 0);
    lineKey.lastChild.textContent = seen.view < 0 ? "even odds of the mean (thin: of each run)" : "even odds";
    litKey.lastChild.textContent = `in run ${run + 1}’s batch`;
    const parts = [];
    if (current.updates > 0) {
      const last = counted(current.batch.length, "row");
      parts.push(`Run ${run + 1}: the last batch (${last}) had loss ${nats(current.batchLoss[run])} before its update`);
      if (current.epochLoss) parts.push(`Keras would report loss ${nats(current.epochLoss[run])} for its last whole epoch`);
    } else {
      parts.push("Nothing is trained yet: press Play, or Step for a single update");
    }
    detail.textContent = `${parts.join("; ")}.`;
  }

  // The pictures.
  const progressBy = (race, name) => AXES[name].of({ ...race, epochs: race.updates / updatesPerEpoch(race.settings.batchSize) });
  function common(races) {
    return races.length > 1 ? Math.min(...races.map((race) => progressBy(race, seen.axis))) : null;
  }

  function end(races) {
    const per = updatesPerEpoch(settings.batchSize);
    const planned = until();
    const goal = { updates: planned, epochs: planned / per, rows: (planned / per) * data.rows };
    return Math.max(AXES[seen.axis].of(goal), ...races.map((race) => progressBy(race, seen.axis)));
  }

  function at(race, limit) {
    const { of } = AXES[seen.axis];
    return race.points.findLast((point) => limit === null || of(point) <= limit + 1e-9) ?? race.points[0];
  }

  function writeTable(races) {
    const limit = common(races);
    caption.textContent =
      limit === null
        ? "Races so far: median loss in nats, and the band of 95 % of the runs"
        : `At equal ${seen.axis}, the last that all races have reached (${short(limit)}): median loss in nats, and the band of 95 % of the runs`;
    const rows = races.map((race) => {
      const point = at(race, limit);
      const { batchSize, optimizer: name, learningRate, runs: count } = race.settings;
      const swatch = h("i", { class: "bl-swatch", style: `background:${data.colours[batchSize]}`, "aria-hidden": "true" });
      return h(
        "tr",
        {},
        h("th", { scope: "row" }, swatch, `${batchSize}`),
        ...Object.keys(LOSSES).map((key) => h("td", {}, figure(point.bands[key], count))),
        h("td", {}, `${+point.epochs.toPrecision(3)} epochs = ${counted(point.updates, "update")} = ${counted(point.rows, "row")}`),
        h("td", {}, `${name}, ${learningRate}, ${counted(count, "run")}`),
      );
    });
    body.replaceChildren(...rows);
    table.hidden = caption.hidden = races.length === 0;
  }

  function label(races) {
    const { surfaces } = current;
    const who = seen.view < 0 ? `the mean of ${counted(settings.runs, "run")}` : `run ${seen.view + 1}`;
    const { grid, count, logits } = surfaces;
    const probability = (column, row) => {
      let sum = 0;
      for (let run = 0; run < count; run++) sum += 1 / (1 + Math.exp(-logits[run * grid * grid + row * grid + column]));
      return sum / count;
    };
    let bought = 0;
    for (let row = 0; row < grid; row++) for (let column = 0; column < grid; column++) bought += probability(column, row) > 0.5;
    const [low, high] = [0, grid - 1];
    plane.setAttribute(
      "aria-label",
      `Decision boundary of ${who} at batch size ${settings.batchSize} after ${progress()}, over ${data.y.length} people by ` +
        `${data.axes.map((each) => each.label).join(" and ")}. The network expects a purchase on ` +
        `${percent(bought / grid ** 2)} of the plane. Its probability of buying: young with low salary ${percent(probability(low, low))}, ` +
        `young with high salary ${percent(probability(low, high))}, older with low salary ${percent(probability(high, low))}, ` +
        `older with high salary ${percent(probability(high, high))}.` +
        (current.batch.length ? ` Lit up: ${counted(current.batch.length, "row")} of run ${Math.max(seen.view, 0) + 1}’s last batch.` : ""),
    );
    for (const [name, text] of Object.entries(LOSSES)) {
      const lines = races.map((race) => {
        const [from, to] = [race.points[0].bands[name][1], race.points.at(-1).bands[name][1]];
        return `Batch size ${race.settings.batchSize}: median from ${nats(from)} to ${nats(to)} after ${whole(progressBy(race, seen.axis))} ${seen.axis}.`;
      });
      curves[name].setAttribute(
        "aria-label",
        `${text} in nats over ${seen.axis}, a line with its band for each race. ${lines.join(" ") || "No race yet."}`,
      );
    }
  }

  function paint() {
    isDrawing = false;
    const now = performance.now();
    lastDrawn = now;
    if (plane.clientWidth < 100) return computer.send({ type: "drawn" }); // hidden: its size, once it has one, draws
    const theme = styleOf(root);
    const races = shownRaces();
    const { batchSize } = current.settings;
    const colour = data.colours[batchSize];
    root.style.setProperty("--bl-race", colour);
    if (current.surfaces) {
      const batch = playing && calm.matches ? [] : current.batch;
      drawBoundary(plane, theme, { data, surfaces: current.surfaces, batch, colour, area });
    }
    const highest = Math.min(
      1.6,
      0.05 + races.flatMap((race) => race.points.flatMap((p) => [p.bands.loss[2], p.bands.valLoss[2]])).reduce((a, b) => Math.max(a, b), 0.75),
    );
    for (const name of Object.keys(LOSSES)) {
      drawCurves(curves[name], theme, {
        races,
        current,
        key: name,
        axis: seen.axis,
        end: end(races),
        budget: common(races),
        run: seen.view,
        colours: data.colours,
        top: highest,
      });
    }
    write();
    // What is read rather than watched changes at a reader's pace.
    if (now - lastTable > 400) {
      lastTable = now;
      writeTable(races);
      if (current.surfaces) label(races);
    }
    if (playing && now - lastSaid > ANNOUNCE_MS) say(summary());
    computer.send({ type: "drawn" });
  }

  function draw() {
    if (isDrawing) return;
    isDrawing = true;
    const wait = playing && calm.matches ? Math.max(0, lastDrawn + 500 - performance.now()) : 0;
    setTimeout(() => requestAnimationFrame(paint), wait);
  }

  function change() {
    lastTable = -Infinity;
    draw();
  }

  const sizesSeen = new ResizeObserver(draw);
  for (const each of [plane, ...Object.values(curves)]) sizesSeen.observe(each);
  const themes = new MutationObserver(draw);
  for (const each of [document.documentElement, document.body]) themes.observe(each, { attributes: true });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", draw);
  begin();

  return () => {
    computer.close();
    sizesSeen.disconnect();
    themes.disconnect();
    dark.removeEventListener("change", draw);
    root.remove();
  };
}

export default {
  render: ({ model, el }) => mount(el, model.get("data")),
};
