// Runs a style that `metastyle-export` wrote as .onnx (pixels float32) in the browser. The folder
// `onnxruntime-web` beside this file has the two files that launch/browser.sh puts there.
import * as ort from './onnxruntime-web/ort.wasm.bundle.min.mjs';

export const LEAST = 16; // pixels of a side

// Opens a model: a URL, or the contents of a file as ArrayBuffer.
export async function load(model) {
  return ort.InferenceSession.create(model instanceof ArrayBuffer ? new Uint8Array(model) : model);
}

// RGB in 0..1, rows of pixels as Float32Array of 3 * height * width, to the same.
export async function stylize(session, pixels, height, width) {
  if (!(height >= LEAST && width >= LEAST)) {
    throw new Error(`${width} x ${height} pixels: both sides must have ${LEAST} at least`);
  }
  if (pixels.length !== 3 * height * width) {
    throw new Error(`${pixels.length} numbers are not ${width} x ${height} pixels of RGB`);
  }
  const images = new ort.Tensor('float32', pixels, [1, height, width, 3]);
  const { stylized } = await session.run({ images });
  return stylized.data;
}

// The same for what a canvas gives, keeping transparency.
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
