// Pictures: decoding, sizes that the network can take, and saving.

import { Refusal, refusePicture } from './messages.js';
import { sizeInFile } from './files.js';
import { uprightWebp } from './orientation.js';
import { LEAST } from './stylize.js';

// WebAssembly has 4 GiB at most. Measured: the network needs 670 bytes for each pixel.
const BYTES_A_PIXEL = 670;
const GIBIBYTE = 2 ** 30;

// How many pixels the network can take on this device. Half of a phone's memory is left to others;
// `navigator.deviceMemory` is unknown in some browsers.
export function mostPixels(memory = navigator.deviceMemory ?? 8) {
  return Math.floor((Math.min(3.8, memory / 2) * GIBIBYTE) / BYTES_A_PIXEL);
}

// Decodes a file, turned upright as its EXIF data say. Returns its size, a note about damage ('' if
// there is none) and a bitmap, which is smaller where the network cannot take as many pixels: they
// would only fill the memory. Throws a Refusal that says why a file cannot be decoded.
export async function decode(file, found) {
  let bitmap, note = '';
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: 'from-image' });
  } catch (error) {
    bitmap = await withEnd(file, found);
    if (!bitmap) throw refusePicture(file.name, found, await sizeInFile(file), error);
    note = 'The end of the file is missing, so a part of the picture may be grey.';
  }
  if (found.name === 'a WebP picture') bitmap = await uprightWebp(file, bitmap);
  const { width, height } = bitmap;
  if (Math.min(width, height) < LEAST) {
    bitmap.close();
    throw new Refusal(`${file.name} is too small`,
      `It has ${width} × ${height} pixels. Both sides must have at least ${LEAST} pixels.`);
  }
  return { width, height, note, bitmap: await reduce(bitmap, fit(bitmap, Infinity, mostPixels())) };
}

async function reduce(bitmap, { width, height }) {
  if (width === bitmap.width) return bitmap;
  const options = { resizeWidth: width, resizeHeight: height, resizeQuality: 'high' };
  const smaller = await createImageBitmap(bitmap, options);
  bitmap.close();
  return smaller;
}

// Decodes a JPEG file that lacks its end; null if that is not what is wrong. Some programs leave out
// the last two bytes only, and nothing of the picture is lost.
async function withEnd(file, found) {
  if (found.name !== 'a JPEG picture') return null;
  return createImageBitmap(new Blob([file, new Uint8Array([0xff, 0xd9])]),
    { imageOrientation: 'from-image' }).catch(() => null);
}

// The largest size of the same shape with at most `side` pixels on the longer side and `most` pixels.
export function fit({ width, height }, side, most = Infinity) {
  const scale = Math.min(1, side / Math.max(width, height), Math.sqrt(most / (width * height)));
  // Rounding down keeps what is reduced below the limit.
  const round = scale * scale * width * height > most - width - height ? Math.floor : Math.round;
  return { width: Math.max(1, round(scale * width)), height: Math.max(1, round(scale * height)) };
}

// The part of a picture, in the middle, that has the shape of `size`; everything if shapes agree.
export function crop({ width, height }, size) {
  const scale = Math.min(width / size.width, height / size.height);
  const w = scale * size.width, h = scale * size.height;
  return [(width - w) / 2, (height - h) / 2, w, h];
}

// Draws a picture in the given size onto a canvas.
export function draw(canvas, bitmap, size) {
  Object.assign(canvas, size);
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, ...crop(bitmap, size), 0, 0, size.width, size.height);
}

// A random square of a picture, three quarters of the shorter side or more, as a canvas. Smaller ones
// may show nothing but sky, and a step on a plain picture misleads.
export function randomSquare(bitmap, side) {
  const shorter = Math.min(bitmap.width, bitmap.height);
  const cut = shorter * (3 + Math.random()) / 4;
  const canvas = Object.assign(document.createElement('canvas'), { width: side, height: side });
  const context = canvas.getContext('2d');
  context.imageSmoothingQuality = 'high';
  context.drawImage(bitmap, Math.random() * (bitmap.width - cut), Math.random() * (bitmap.height - cut),
    cut, cut, 0, 0, side, side);
  return canvas;
}

// The picture on a canvas as a file. PNG keeps transparency; JPEG has none and gets white.
export function toBlob(canvas, type) {
  let source = canvas;
  if (type === 'image/jpeg') {
    source = document.createElement('canvas');
    Object.assign(source, { width: canvas.width, height: canvas.height });
    const context = source.getContext('2d');
    context.fillStyle = 'white';
    context.fillRect(0, 0, source.width, source.height);
    context.drawImage(canvas, 0, 0);
  }
  return new Promise((resolve, reject) => {
    source.toBlob((blob) => (blob ? resolve(blob) : reject(new Error('out of memory'))), type, 0.95);
  });
}

// Address of a small copy of a picture, cut to a square; whoever gets it must revoke it.
export async function thumbnailOf(picture, side = 112) {
  const canvas = document.createElement('canvas');
  draw(canvas, picture, { width: side, height: side });
  return URL.createObjectURL(await toBlob(canvas, 'image/jpeg'));
}

export function download(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The browser may still be reading it.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
