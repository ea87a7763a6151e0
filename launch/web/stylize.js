// Runs a style in the browser: an .onnx file that `metastyle export` has written. This file knows
// nothing of the page, so it can be copied into another one. The folder `onnxruntime-web` beside it
// must hold the files that launch/browser.sh downloads.

export const LEAST = 16; // smallest length of a side in pixels

const RUNTIMES = {
  wasm: './onnxruntime-web/ort.wasm.bundle.min.mjs',
  webgpu: './onnxruntime-web/ort.webgpu.bundle.min.mjs',
};

// Downloads onnxruntime-web for one backend, 'wasm' or 'webgpu'. More than one thread needs a page
// that is cross-origin isolated.
export async function loadRuntime(backend = 'wasm', threads = 1) {
  const ort = await import(RUNTIMES[backend]);
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = 'error';
  return { ort, backend };
}

// Loads a style from a URL, or from the contents of a file as ArrayBuffer. Returns the session of
// onnxruntime, the type of its pixels ('float32' or 'uint8') and, if the style takes pictures of one
// size only, this size as [height, width].
export async function load(model, runtime) {
  const { ort, backend } = runtime ?? (await loadRuntime());
  const session = await ort.InferenceSession.create(
    model instanceof ArrayBuffer ? new Uint8Array(model) : model,
    { executionProviders: [backend], logSeverityLevel: 3 },
  );
  const [input] = session.inputMetadata;
  if (session.inputNames.join() !== 'images' || session.outputNames.join() !== 'stylized' ||
      !['float32', 'uint8'].includes(input?.type)) {
    await session.release();
    throw new Error('not a style: a style has one input `images` and one output `stylized`');
  }
  const [, height, width] = input.shape;
  const fixed = typeof height === 'number' && typeof width === 'number';
  return { ort, session, pixels: input.type, size: fixed ? [height, width] : null };
}

// Stylizes an image: rows of RGB pixels, of the type that the style takes: Float32Array in 0..1 or
// Uint8Array, of 3 * height * width numbers. Returns the same form.
export async function stylize(style, pixels, height, width) {
  if (!(height >= LEAST && width >= LEAST)) {
    throw new Error(`${width} x ${height} pixels: both sides must have at least ${LEAST} pixels`);
  }
  if (pixels.length !== 3 * height * width) {
    throw new Error(`${pixels.length} numbers are not ${width} x ${height} pixels of RGB`);
  }
  if (style.size && style.size.join() !== `${height},${width}`) {
    const [h, w] = style.size;
    throw new Error(`${width} x ${height} pixels: this style takes only ${w} x ${h} pixels`);
  }
  const images = new style.ort.Tensor(style.pixels, pixels, [1, height, width, 3]);
  const { stylized } = await style.session.run({ images, ...style.inputs });
  const data = await stylized.getData();
  stylized.dispose();
  return data;
}

// Pixels of an ImageData as rows of RGB, in 0..1, or in 0..255 for bytes. Transparent pixels lie on
// white, as in Python.
export function pixelsOf({ data, height, width }, bytes = false) {
  const scale = bytes ? 1 : 1 / 255;
  const count = height * width;
  const pixels = new (bytes ? Uint8Array : Float32Array)(3 * count);
  for (let i = 0; i < count; i++) {
    const alpha = data[4 * i + 3] / 255;
    for (let c = 0; c < 3; c++) {
      const blended = alpha * data[4 * i + c] + (1 - alpha) * 255;
      pixels[3 * i + c] = bytes ? Math.round(blended) : blended * scale;
    }
  }
  return pixels;
}

// Stylizes the ImageData of a canvas. The result is as transparent as the image. A style may have a
// strength: the share of its output in the result; the rest is the image itself.
export async function stylizeImageData(style, image) {
  const { height, width } = image;
  const bytes = style.pixels === 'uint8';
  const pixels = pixelsOf(image, bytes);
  const { strength = 1 } = style;
  const before = strength < 1 ? pixels.slice() : null; // the runtime may take the other array away
  const made = await stylize(style, pixels, height, width);
  const result = new ImageData(width, height);
  const levels = bytes ? 1 : 255;
  let sum = 0; // NaN or infinity in one pixel makes the sum NaN or infinite
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) {
      const value = made[3 * i + c];
      const level = levels * (before ? before[3 * i + c] + strength * (value - before[3 * i + c]) : value);
      sum += level;
      result.data[4 * i + c] = Math.round(level);
    }
    result.data[4 * i + 3] = image.data[4 * i + 3];
  }
  if (!Number.isFinite(sum)) throw new Error('the network returned numbers that are not finite');
  return result;
}
