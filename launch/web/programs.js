// Paints in the style of any painting, with the two programs that `metastyle export --web` writes.
// Like stylize.js, this file knows nothing of the page. A style is a vector of numbers, the norms.

import { LEAST, loadRuntime, pixelsOf } from './stylize.js';
import { resize, sizeOfArea } from './resize.js';

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

// Predicts the norms of a painting, an ImageData: Float32Array of all instance norms.
export async function predict(programs, image) {
  const { painting_side: side, input, output } = programs.manifest.predictor;
  const size = sizeOfArea(side, image.height, image.width, LEAST);
  const pixels = resize(pixelsOf(image), [image.height, image.width], size);
  const session = await programs.session('predictor');
  const painting = new (programs.ort().Tensor)('float32', pixels, [1, ...size, 3]);
  const answer = await session.run({ [input]: painting });
  const norms = Float32Array.from(await answer[output].getData());
  answer[output].dispose();
  if (!norms.every(Number.isFinite)) throw new Error('the network returned numbers that are not finite');
  return norms;
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
