// Reads and writes .safetensors files: the length of a header, the header as JSON, and the numbers.
// Source: https://github.com/huggingface/safetensors#format

import { sha256 } from './sha256.js';

const TYPES = { F16: ['float16', 2], F32: ['float32', 4], F64: ['float64', 8] };

// Reads a file. Returns its metadata and its tensors: name -> { shape, data: Float32Array }. Throws an
// Error that says what is wrong. `metadata.sha256`, if there is one, must be that of the tensors.
export function parse(buffer) {
  if (buffer.byteLength < 8) throw new Error('the file ends in its header');
  const view = new DataView(buffer);
  const length = Number(view.getBigUint64(0, true));
  if (length > buffer.byteLength - 8) throw new Error('the file ends in its header');
  let header;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array(buffer, 8, length)));
  } catch {
    throw new Error('the header is not JSON');
  }
  const { __metadata__: metadata = {}, ...entries } = header;
  const raw = Object.entries(entries).map(([name, entry]) => ({ name, ...bytesOf(name, entry, buffer, 8 + length) }));
  if (metadata.sha256 && metadata.sha256 !== fingerprint(raw)) throw new Error('the numbers are not those that were written');
  const tensors = Object.fromEntries(raw.map(({ name, shape, type, bytes }) => [name, { shape, data: toFloat32(type, bytes) }]));
  return { metadata, tensors };
}

function bytesOf(name, entry, buffer, begin) {
  const { dtype, shape, data_offsets: offsets } = entry ?? {};
  if (!TYPES[dtype]) throw new Error(`${name} has the type ${dtype}; float16, float32 and float64 are known`);
  const [type, size] = TYPES[dtype];
  if (!Array.isArray(shape) || !Array.isArray(offsets)) throw new Error(`${name} has no shape or place`);
  const [from, to] = offsets;
  const wanted = size * shape.reduce((a, b) => a * b, 1);
  if (!(from >= 0 && to - from === wanted)) throw new Error(`${name} has ${to - from} bytes, its shape needs ${wanted}`);
  if (begin + to > buffer.byteLength) throw new Error('the file ends in its numbers');
  return { shape, type, bytes: new Uint8Array(buffer, begin + from, to - from) };
}

function toFloat32(type, bytes) {
  const copy = bytes.slice().buffer; // aligned
  if (type === 'float32') return new Float32Array(copy);
  if (type === 'float64') return Float32Array.from(new Float64Array(copy));
  return Float32Array.from(new Uint16Array(copy), halfToNumber);
}

function halfToNumber(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

// SHA-256 of names, types, shapes and bytes, sorted by name, as Python's `tensor_files.sha256`.
function fingerprint(raw) {
  const parts = [];
  for (const { name, type, shape, bytes } of [...raw].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const text = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(', ')})`;
    parts.push(new TextEncoder().encode(`${name} ${type} ${text}\n`), bytes);
  }
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return sha256(all);
}

// Makes a file, a Blob, of tensors { name: { shape, data: Float32Array } } and metadata { key: text }.
// The SHA-256 of the tensors is added to the metadata.
export function write(tensors, metadata) {
  const raw = Object.entries(tensors).map(([name, { shape, data }]) => (
    { name, shape, type: 'float32', bytes: new Uint8Array(Float32Array.from(data).buffer) }));
  const header = { __metadata__: { ...metadata, sha256: fingerprint(raw) } };
  let at = 0;
  for (const { name, shape, bytes } of raw) {
    header[name] = { dtype: 'F32', shape, data_offsets: [at, at + bytes.length] };
    at += bytes.length;
  }
  const text = JSON.stringify(header);
  const encoded = new TextEncoder().encode(text);
  const padded = new Uint8Array(Math.ceil(encoded.length / 8) * 8).fill(0x20); // numbers begin aligned
  padded.set(encoded);
  const begin = new DataView(new ArrayBuffer(8));
  begin.setBigUint64(0, BigInt(padded.length), true);
  return new Blob([begin.buffer, padded, ...raw.map(({ bytes }) => bytes)], { type: 'application/octet-stream' });
}
