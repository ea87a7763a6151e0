// Paints in the style of any painting, with the two programs that `metastyle export --web` writes.
// Like stylize.js, this file knows nothing of the page. A style is a vector of numbers, the norms.

import { LEAST, loadRuntime, pixelsOf } from './stylize.js';
import { resizePainting, sizeOfArea } from './resize.js';

// Loads the manifest of the folder with the programs; null if there is none.
export async function loadManifest(folder) {
  const answer = await fetch(new URL('manifest.json', folder)).catch(() => null);
  if (!answer?.ok) return null;
  const manifest = await answer.json().catch(() => null);
  if (manifest?.format !== 'metastyle_jax.web') return null;
  if (manifest.version !== 1) throw new Error(`the programs have version ${manifest.version}, this page knows 1`);
  return manifest;
}

// Opens the programs of a folder. Each is downloaded when it is first needed.
export function openPrograms(folder, manifest, runtime = null) {
  const sessions = {};
  const open = async (part) => {
    const { ort, backend } = (runtime ??= await loadRuntime());
    const file = new URL(manifest[part].file, folder);
    const answer = await fetch(file);
    if (!answer.ok) throw new Error(`Failed to fetch ${file.pathname}: ${answer.status} ${answer.statusText}`);
    return ort.InferenceSession.create(new Uint8Array(await answer.arrayBuffer()),
      { executionProviders: [backend], logSeverityLevel: 3 });
  };
  const session = (part) => {
    sessions[part] ??= open(part);
    sessions[part].catch(() => { delete sessions[part]; }); // the next request tries again
    return sessions[part];
  };
  return { manifest, session, ort: () => runtime.ort };
}

// Runs a program with { name: Tensor }. Returns { name: Float32Array }.
async function run(session, inputs) {
  const answer = await session.run(inputs);
  const made = {};
  for (const [name, tensor] of Object.entries(answer)) {
    made[name] = Float32Array.from(await tensor.getData());
    tensor.dispose();
    if (!made[name].every(Number.isFinite)) throw new Error('the network returned numbers that are not finite');
  }
  return made;
}

// Predicts the norms of a painting, an ImageData. Returns all instance norms as one Float32Array, and
// the Gram matrices of the painting, { name: Float32Array }, for `refine`. Whether it was a JPEG file
// matters a little for equal results with Python.
export async function predict(programs, image, isJpeg = false) {
  const { painting_side: side, input, output, grams: names } = programs.manifest.predictor;
  const size = sizeOfArea(side, image.height, image.width, LEAST);
  const pixels = resizePainting(pixelsOf(image), [image.height, image.width], size, isJpeg);
  const session = await programs.session('predictor');
  const { Tensor } = programs.ort();
  const made = await run(session, { [input]: new Tensor('float32', pixels, [1, ...size, 3]) });
  return { norms: made[output], grams: Object.fromEntries(names.map((name) => [name, made[name]])) };
}

// Takes one gradient step of an adaptation, at the learned rates of θ. `image` is the ImageData of a
// photograph whose sides are multiples of 8, at least 32. Returns the next norms and the loss before.
export async function refine(programs, norms, grams, image, step) {
  const session = await programs.session('refiner');
  const { Tensor } = programs.ort();
  const inputs = {
    photo: new Tensor('float32', pixelsOf(image), [1, image.height, image.width, 3]),
    norms: new Tensor('float32', norms, [norms.length]),
    step: new Tensor('int64', BigInt64Array.of(BigInt(step)), [1]),
  };
  for (const [name, gram] of Object.entries(grams)) {
    inputs[name] = new Tensor('float32', gram, [Math.sqrt(gram.length), Math.sqrt(gram.length)]);
  }
  const { next, loss: [loss] } = await run(session, inputs);
  return { norms: next, loss };
}

// Makes the style of a vector of norms, for `stylizeImageData` of stylize.js. The strength, 0 to 1,
// is the share of the style: as in Python, both the network and its output are mixed.
export async function styleOf(programs, norms, strength = 1) {
  const session = await programs.session('transformer');
  const mixed = mix([norms, programs.manifest.theta_norms], [strength, 1 - strength]);
  const inputs = { norms: new (programs.ort().Tensor)('float32', mixed, [mixed.length]) };
  return { ort: programs.ort(), session, pixels: 'float32', size: null, inputs, strength };
}

// Adds vectors, each times its weight.
export function mix(vectors, weights) {
  return Float32Array.from(vectors[0],
    (_, i) => vectors.reduce((sum, vector, k) => sum + weights[k] * vector[i], 0));
}
