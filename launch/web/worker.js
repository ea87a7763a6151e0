// Runs the network in a thread of its own, so that the page stays responsive. Each message in has a
// number, and each answer repeats it. Pictures travel as transferred objects: nothing is copied.

import { load, loadRuntime, stylizeImageData } from './stylize.js';
import { openPrograms, predict, refine, styleOf } from './programs.js';

let runtime, programs;
let open = { key: null, style: null }; // one style at a time: each needs some ten megabytes

async function openStyle({ key, model }) {
  if (open.key === key) return open.style;
  await open.style?.session.release();
  open = { key: null, style: null };
  const style = await load(await model.arrayBuffer(), runtime);
  open = { key, style };
  return style;
}

// The style of a message: a file that the person opened, or norms for the programs of θ.
async function styleOfMessage({ norms, strength, ...message }) {
  return norms ? styleOf(programs, norms, strength) : openStyle(message);
}

// Milliseconds for one pixel, for the first forecast. The first run takes longer than all others.
async function measure(style) {
  if (style.size) return null;
  const side = 64;
  await stylizeImageData(style, new ImageData(side, side));
  const begun = performance.now();
  await stylizeImageData(style, new ImageData(side, side));
  return (performance.now() - begun) / side ** 2;
}

function imageOf(bitmap) {
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close(); // the memory is needed for the network
  return context.getImageData(0, 0, width, height);
}

const tasks = {
  async start({ backend, threads, folder, manifest }) {
    runtime = await loadRuntime(backend, threads);
    if (manifest) programs = openPrograms(folder, manifest, runtime);
    return {};
  },
  predict({ bitmap, isJpeg }) {
    return predict(programs, imageOf(bitmap), isJpeg);
  },
  refine({ norms, grams, bitmap, step }) {
    return refine(programs, norms, grams, imageOf(bitmap), step);
  },
  async open(message) {
    const style = await styleOfMessage(message);
    const speed = message.measure ? await measure(style) : null;
    return { pixels: style.pixels, size: style.size, speed };
  },
  async paint(message) {
    const style = await styleOfMessage(message);
    const begun = performance.now();
    const { data, width, height } = await stylizeImageData(style, imageOf(message.bitmap));
    return { buffer: data.buffer, width, height, milliseconds: performance.now() - begun };
  },
};

async function answerTo(message) {
  const { number, task } = message;
  try {
    const answer = await tasks[task](message);
    self.postMessage({ number, answer }, answer.buffer ? [answer.buffer] : []);
  } catch (error) {
    self.postMessage({ number, failure: `${error?.message ?? error}` });
  }
}

// One message after the other: a style must not be closed while it paints.
let last = Promise.resolve();
self.onmessage = ({ data }) => { last = last.then(() => answerTo(data)); };
