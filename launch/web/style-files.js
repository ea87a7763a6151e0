// Style files and libraries of `metastyle adapt`: instance norms of one θ, in .safetensors files.

import { refuseTensors } from './messages.js';
import { parse, write } from './safetensors.js';

const STYLE = 'metastyle_jax.style', LIBRARY = 'metastyle_jax.library';
const VERSION = '1';

// Reads a style file or a library, a File. Returns a list of { name, norms: Float32Array, record },
// where the record is what a style file says beside the numbers. Throws a Refusal that says why a
// file cannot be used with the θ of the manifest.
export async function readStyles(file, manifest) {
  const buffer = await file.arrayBuffer();
  let found;
  try {
    found = parse(buffer);
  } catch (cause) {
    throw refuseTensors(file.name, 'damaged', cause);
  }
  const { metadata, tensors } = found;
  const { format, version, adapted } = metadata;
  if (format === 'metastyle_jax.theta') throw refuseTensors(file.name, 'theta');
  if (format !== STYLE && format !== LIBRARY) throw refuseTensors(file.name, 'foreign');
  if (version !== VERSION) throw refuseTensors(file.name, 'version');
  if (metadata.theta_sha256 !== manifest.theta_sha256) {
    throw refuseTensors(file.name, format === STYLE && adapted !== 'norm' ? 'whole' : 'other θ');
  }
  if (format === STYLE && adapted !== 'norm') throw refuseTensors(file.name, 'whole');
  try {
    return format === STYLE ? [styleOf(tensors, metadata, manifest)] : stylesOf(tensors, metadata, manifest);
  } catch (cause) {
    throw refuseTensors(file.name, 'damaged', cause);
  }
}

function styleOf(tensors, metadata, manifest) {
  const { style_name, style_sha256 } = metadata;
  const record = { style_name, style_sha256, settings: JSON.parse(metadata.settings), losses: JSON.parse(metadata.losses) };
  return { name: style_name, norms: toVector(tensors, manifest), record };
}

// A library has a row for each style in each tensor.
function stylesOf(tensors, metadata, manifest) {
  const entries = Object.entries(JSON.parse(metadata.styles));
  const settings = JSON.parse(metadata.settings);
  return entries.map(([name, { sha256, losses }], row) => {
    const rows = Object.fromEntries(Object.entries(tensors).map(([tensor, { shape, data }]) => {
      if (shape.length !== 2 || shape[0] !== entries.length) throw new Error(`${tensor} has no row for each style`);
      return [tensor, { data: data.subarray(row * shape[1], (row + 1) * shape[1]) }];
    }));
    return { name, norms: toVector(rows, manifest), record: { style_name: name, style_sha256: sha256, settings, losses } };
  });
}

function toVector(tensors, { norms }) {
  if (Object.keys(tensors).length !== norms.length) throw new Error(`${Object.keys(tensors).length} tensors, not ${norms.length}`);
  const vector = new Float32Array(norms.reduce((sum, { length }) => sum + length, 0));
  for (const { name, offset, length } of norms) {
    if (tensors[name]?.data.length !== length) throw new Error(`${name} is missing or of another size`);
    vector.set(tensors[name].data, offset);
  }
  if (!vector.every(Number.isFinite)) throw new Error('some numbers are not finite');
  return vector;
}

// Makes a style file, a Blob, which `metastyle stylize --style` takes.
export function writeStyle({ norms, record }, manifest) {
  const tensors = Object.fromEntries(manifest.norms.map(({ name, offset, length }) => (
    [name, { shape: [length], data: norms.subarray(offset, offset + length) }])));
  return write(tensors, {
    format: STYLE,
    version: VERSION,
    adapted: 'norm',
    theta_sha256: manifest.theta_sha256,
    style_name: record.style_name,
    style_sha256: record.style_sha256,
    settings: JSON.stringify(record.settings),
    losses: JSON.stringify(record.losses),
  });
}

// What a style file says of a style that was predicted from a painting.
export function recordOfPrediction(name, sha256, { predictor }) {
  const settings = { params: 'norm', steps: 0, inner_steps: 0, begin: 'predicted', batch: 1,
    style_size: predictor.painting_side, vgg: predictor.vgg, made_in: 'browser' };
  return { style_name: name, style_sha256: sha256, settings, losses: {} };
}

// What a style file says of a blend of two styles, which has no painting of its own.
export function recordOfBlend(one, other, weight) {
  return { style_name: `${one.record.style_name} + ${other.record.style_name}`,
    style_sha256: `${one.record.style_sha256}+${other.record.style_sha256}`,
    settings: { params: 'norm', blend: [one.record.style_name, other.record.style_name], weights: [1 - weight, weight] },
    losses: {} };
}
