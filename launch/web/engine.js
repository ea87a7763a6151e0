// Owns the worker that runs the network: starts it, asks it, cancels it, and moves from the graphics
// card to the processor if the graphics card fails.

export class Cancelled extends Error {}

// What the network needs and old browsers lack; null if everything is there.
export function missingInBrowser() {
  // A module with one instruction for vectors (SIMD): the smallest that WebAssembly can validate.
  const simd = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1,
    8, 0, 65, 0, 253, 15, 253, 98, 11]);
  if (typeof WebAssembly !== 'object') return 'WebAssembly';
  if (!WebAssembly.validate(simd)) return 'WebAssembly SIMD';
  if (typeof OffscreenCanvas !== 'function') return 'OffscreenCanvas';
  if (typeof createImageBitmap !== 'function') return 'createImageBitmap';
  return null;
}

// Chooses where the network runs: on the graphics card if WebGPU has one, else on the processor with
// as many threads as the page may have. `wanted` is 'webgpu', 'wasm' or null for the better one.
export async function chooseBackend(wanted = null) {
  // Threads share memory, which browsers allow only to pages that are cross-origin isolated.
  const threads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, 16) : 1;
  if (wanted === 'wasm') return { backend: 'wasm', threads };
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  // An adapter that imitates a graphics card on the processor is slower than WebAssembly.
  const imitation = adapter?.info?.isFallbackAdapter ?? adapter?.isFallbackAdapter;
  if (!adapter || (imitation && wanted !== 'webgpu')) return { backend: 'wasm', threads };
  return { backend: 'webgpu', threads };
}

export class Engine {
  #choice;
  #worker = null;
  #started = null; // promise of the worker's runtime
  #waiting = new Map(); // number of a message: the promise that its answer settles
  #count = 0;

  // `onFallback(reason)` is called when the graphics card has failed and the processor took over.
  constructor(choice, { onFallback = () => {} } = {}) {
    this.#choice = choice;
    this.onFallback = onFallback;
    this.speed = null; // milliseconds for one pixel, as measured last
  }

  get backend() { return this.#choice.backend; }
  get threads() { return this.#choice.threads; }

  // Starts the worker and its runtime; without this, the first request does.
  start() {
    if (!this.#worker) {
      this.#worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
      this.#worker.onmessage = ({ data }) => this.#settle(data);
      this.#worker.onerror = (event) => {
        event.preventDefault();
        this.#stop(new Error(event.message || 'the file worker.js could not be loaded'));
      };
      this.#started = this.#post({ task: 'start', ...this.#choice });
      // Whoever waits for it sees the failure. The next request tries again.
      const worker = this.#worker;
      this.#started.catch(() => worker === this.#worker && this.#stop(new Cancelled('cancelled')));
    }
    return this.#started;
  }

  // Predicts the norms of a painting; `makeBitmap` returns a new ImageBitmap of it. Returns the norms
  // and the Gram matrices.
  predict(makeBitmap, isJpeg) {
    return this.#askWith(makeBitmap, { task: 'predict', isJpeg });
  }

  // Takes a step of an adaptation on a photograph. Returns the next norms and the loss.
  refine(norms, grams, makeBitmap, step) {
    return this.#askWith(makeBitmap, { task: 'refine', norms, grams, step });
  }

  // Opens a style, { key, model: Blob }. Returns the type of its pixels and its size, if it is fixed.
  async open(style) {
    // Graphics cards are fast, but compile anew for each size: a forecast from a small run misleads.
    const opened = await this.#ask(() => (
      { task: 'open', ...style, measure: !this.speed && this.backend === 'wasm' }));
    this.speed ??= opened.speed;
    return opened;
  }

  // Paints a picture; `makeBitmap` returns a new ImageBitmap of it. A style is an exported one,
  // { key, model }, or one of norms, { norms, strength }. Returns ImageData and the time.
  async paint({ key, model, norms, strength }, makeBitmap, { measure = true } = {}) {
    const message = { task: 'paint', key, model, norms, strength };
    const { buffer, width, height, milliseconds } = await this.#askWith(makeBitmap, message);
    if (measure) this.speed = milliseconds / (width * height);
    const image = new ImageData(new Uint8ClampedArray(buffer), width, height);
    return { image, milliseconds };
  }

  // Stops whatever runs, and starts anew: a running network cannot be interrupted in another way.
  cancel() {
    this.#stop(new Cancelled('cancelled'));
    this.start().catch(() => {}); // the next request tells
  }

  #askWith(makeBitmap, message) {
    return this.#ask(async () => {
      const bitmap = await makeBitmap();
      return { ...message, bitmap, transfer: [bitmap] };
    });
  }

  async #ask(makeMessage) {
    try {
      return await this.#askOnce(makeMessage);
    } catch (error) {
      if (error instanceof Cancelled || this.backend !== 'webgpu') throw error;
      return this.#askProcessor(makeMessage, error);
    }
  }

  async #askOnce(makeMessage) {
    await this.start();
    const worker = this.#worker;
    const message = await makeMessage();
    if (worker !== this.#worker) throw new Cancelled('cancelled');
    return this.#post(message);
  }

  // Repeats on the processor what failed on the graphics card. If it fails there too, the style or
  // the picture is to blame, and the graphics card stays in use.
  async #askProcessor(makeMessage, reason) {
    const before = this.#choice;
    this.#stop(new Cancelled('cancelled'));
    this.#choice = { ...before, backend: 'wasm' };
    this.speed = null;
    let answer;
    try {
      answer = await this.#askOnce(makeMessage);
    } catch (error) {
      if (!(error instanceof Cancelled)) {
        this.#stop(new Cancelled('cancelled'));
        this.#choice = before;
      }
      throw error;
    }
    this.onFallback(reason.message);
    return answer;
  }

  #post({ transfer = [], ...message }) {
    const number = this.#count++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      this.#worker.postMessage({ number, ...message }, transfer);
    });
  }

  #settle({ number, answer, failure }) {
    const waiting = this.#waiting.get(number);
    this.#waiting.delete(number);
    if (failure === undefined) waiting?.resolve(answer);
    else waiting?.reject(new Error(failure));
  }

  #stop(error) {
    this.#worker?.terminate();
    this.#worker = this.#started = null;
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of waiting) reject(error);
  }
}
