// Runs a style in the browser: an .onnx file of `metastyle-export` with pixels of type float32. The
// folder `onnxruntime-web` beside this file must hold the two files that launch/browser.sh downloads.
import * as ort from './onnxruntime-web/ort.wasm.bundle.min.mjs';

export const LEAST = 16; // smallest length of a side in pixels

// Loads a model from a URL, or from the contents of a file as ArrayBuffer.
export async function load(model) {
  return ort.InferenceSession.create(model instanceof ArrayBuffer ? new Uint8Array(model) : model);
}

// Stylizes an image: rows of RGB pixels in 0..1 as Float32Array of 3 * height * width. Returns the same
// form.
export async function stylize(session, pixels, height, width) {
  if (!(height >= LEAST && width >= LEAST)) {
    throw new Error(`${width} x ${height} pixels: both sides must have at least ${LEAST} pixels`);
  }
  if (pixels.length !== 3 * height * width) {
    throw new Error(`${pixels.length} numbers are not ${width} x ${height} pixels of RGB`);
  }
  const images = new ort.Tensor('float32', pixels, [1, height, width, 3]);
  const { stylized } = await session.run({ images });
  return stylized.data;
}

// Stylizes the ImageData of a canvas and keeps its transparency.
export async function stylizeImageData(session, image) {
  const { data, height, width } = image;
  const pixels = new Float32Array(3 * height * width);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) pixels[3 * i + c] = data[4 * i + c] / 255;
  }
  const made = await stylize(session, pixels, height, width);
  const result = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) result.data[4 * i + c] = Math.round(255 * made[3 * i + c]);
    result.data[4 * i + 3] = data[4 * i + 3];
  }
  return result;
}
