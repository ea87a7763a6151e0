// Tells what a file is by its first bytes, because names and types are often wrong.

// One character for each byte. (The decoder called latin1 changes some bytes.)
const text = (bytes) => String.fromCharCode(...bytes);

// Kind, and what people call it, by how a file begins.
const BEGINNINGS = [
  [/^\xff\xd8\xff/, 'picture', 'a JPEG picture'],
  [/^\x89PNG/, 'picture', 'a PNG picture'],
  [/^GIF8/, 'picture', 'a GIF picture'],
  [/^RIFF[^]{4}WEBP/, 'picture', 'a WebP picture'],
  [/^[^]{4}ftypavi[fs]/, 'picture', 'an AVIF picture'],
  [/^[^]{4}ftyp(hei|hev|mif1|msf1)/, 'picture', 'a HEIC photograph'],
  [/^(II\*\0|MM\0\*)/, 'picture', 'a TIFF or camera raw picture'],
  [/^(\xff\x0a|\0\0\0\x0cJXL )/, 'picture', 'a JPEG XL picture'],
  [/^8BPS/, 'picture', 'a Photoshop document'],
  [/^BM[^]{4}\0\0\0\0/, 'picture', 'a BMP picture'],
  [/^(\xef\xbb\xbf)?\s*(<\?xml[^]*?)?<svg/i, 'picture', 'an SVG drawing'],
  [/^([^]{4}ftyp|\x1aE\xdf\xa3|RIFF[^]{4}AVI )/, 'video', 'a video'],
  [/^(\xef\xbb\xbf)?\s*(<!--[^]*?-->\s*)?<(!doctype html|html|head|body)/i, 'page', 'a web page'],
  [/^version https:\/\/git-lfs/, 'pointer', 'a pointer of Git LFS'],
  [/^[^]{8}\{/, 'safetensors', 'a style file (.safetensors)'],
  [/^PK\x03\x04/, 'other', 'a ZIP archive, or PyTorch file'],
  [/^(\x1f\x8b|\xfd7zXZ|7z\xbc\xaf)/, 'other', 'a compressed file'],
  [/^%PDF/, 'other', 'a PDF document'],
  [/^\s*[[{]/, 'other', 'a JSON file'],
];

// Finds out what a file is: { kind, name } where kind is 'picture', 'style', 'empty', 'video', 'page',
// 'pointer', 'safetensors' or 'other', and name is what people call it. An incomplete style also has
// `missing`, the number of bytes that it lacks.
export async function recognise(file) {
  if (!file.size) return { kind: 'empty', name: 'an empty file' };
  const begin = new Uint8Array(await file.slice(0, 1024).arrayBuffer());
  const found = BEGINNINGS.find(([pattern]) => pattern.test(text(begin)));
  if (found) return { kind: found[1], name: found[2] };
  if (/\.stablehlo$/i.test(file.name)) return { kind: 'other', name: 'a StableHLO program' };
  const missing = await missingOfModel(file, begin);
  if (missing !== null) return { kind: 'style', name: 'a style', missing };
  return { kind: 'other', name: 'a file of an unknown format' };
}

// How many bytes an ONNX file lacks at its end; null if it is no ONNX file. Such a file is a sequence
// of numbered fields (protocol buffers): the version of the format first, the graph with its length
// among the others. Only the headers are read, so the size of the file does not matter.
async function missingOfModel(file, begin) {
  if (begin[0] !== 0x08 || begin[1] < 1 || begin[1] > 64) return null;
  let at = 0;
  while (at < file.size) {
    const head = new Uint8Array(await file.slice(at, at + 16).arrayBuffer());
    const [tag, tagEnd] = varint(head, 0);
    const [value, end] = varint(head, tagEnd);
    const field = Math.floor(tag / 8), type = tag % 8;
    if (field < 1 || field > 30 || (type !== 0 && type !== 2)) return null;
    at += end + (type === 2 ? value : 0);
  }
  return at - file.size;
}

// Reads a number of seven bits a byte. Returns it and the position behind it.
function varint(bytes, at) {
  let value = 0, scale = 1;
  while (at < bytes.length) {
    const byte = bytes[at++];
    value += (byte & 127) * scale;
    scale *= 128;
    if (byte < 128) break;
  }
  return [value, at];
}

// Width and height as a PNG or JPEG file says, without decoding it; null for other formats.
export async function sizeInFile(file) {
  const view = new DataView(await file.slice(0, 1 << 18).arrayBuffer());
  try {
    if (view.getUint32(0) === 0x89504e47) return [view.getUint32(16), view.getUint32(20)];
    if (view.getUint16(0) !== 0xffd8) return null;
    for (let at = 2; ; at += 2 + view.getUint16(at + 2)) {
      const marker = view.getUint16(at);
      const frame = marker >= 0xffc0 && marker <= 0xffcf && ![0xffc4, 0xffc8, 0xffcc].includes(marker);
      if (frame) return [view.getUint16(at + 7), view.getUint16(at + 5)];
      if (marker >> 8 !== 0xff) return null;
    }
  } catch {
    return null; // the file ends before it says
  }
}

// Name of a file without folder and suffix.
export const stem = (name) => name.replace(/^.*[\\/]/, '').replace(/\.[^.]+$/, '') || 'picture';
