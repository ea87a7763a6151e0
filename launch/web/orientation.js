// Turns WebP pictures upright as their EXIF data say. Browsers do this for JPEG, PNG and AVIF, and some
// of them for WebP.

// A black picture, 2 pixels wide and 1 high, whose EXIF data say that it was turned by a quarter.
const PROBE = 'UklGRk4AAABXRUJQVlA4WAoAAAAIAAAAAQAAAAAAVlA4TA4AAAAvAQAAAA' +
  'cQEf0PRET/A0VYSUYaAAAATU0AKgAAAAgAAQESAAMAAAABAAYAAAAAAAA=';

// What becomes of the axes, as the arguments of `setTransform`, for the values 2 to 8 of orientation,
// when a picture of w × h pixels is drawn.
const TRANSFORMS = {
  2: (w, h) => [-1, 0, 0, 1, w, 0],
  3: (w, h) => [-1, 0, 0, -1, w, h],
  4: (w, h) => [1, 0, 0, -1, 0, h],
  5: (w, h) => [0, 1, 1, 0, 0, 0],
  6: (w, h) => [0, 1, -1, 0, h, 0],
  7: (w, h) => [0, -1, -1, 0, h, w],
  8: (w, h) => [0, -1, 1, 0, 0, w],
};

// Returns the bitmap of a WebP file upright; the same bitmap if nothing is to do.
export async function uprightWebp(file, bitmap) {
  const orientation = await orientationOfWebp(file);
  if (!TRANSFORMS[orientation] || await turnedByBrowser()) return bitmap;
  const { width, height } = bitmap;
  const [w, h] = orientation < 5 ? [width, height] : [height, width];
  const canvas = new OffscreenCanvas(w, h);
  const context = canvas.getContext('2d');
  context.setTransform(...TRANSFORMS[orientation](width, height));
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return canvas.transferToImageBitmap();
}

async function turnedByBrowser() {
  const bytes = Uint8Array.from(atob(PROBE), (character) => character.charCodeAt(0));
  const probe = await createImageBitmap(new Blob([bytes], { type: 'image/webp' }),
    { imageOrientation: 'from-image' });
  return probe.width === 1;
}

// The value of EXIF's field, 1 to 8; 0 if there is none. A WebP file is a sequence of chunks with a
// name of four letters and a length each.
async function orientationOfWebp(file) {
  for (let at = 12; at + 8 <= file.size;) {
    const head = new DataView(await file.slice(at, at + 8).arrayBuffer());
    const length = head.getUint32(4, true);
    if (head.getUint32(0) === 0x45584946) { // "EXIF"
      return orientationOfExif(new DataView(await file.slice(at + 8, at + 8 + length).arrayBuffer()));
    }
    at += 8 + length + (length % 2);
  }
  return 0;
}

function orientationOfExif(view) {
  try {
    const start = view.getUint32(0) === 0x45786966 ? 6 : 0; // some write "Exif" and two zeros first
    const little = view.getUint16(start) === 0x4949;
    const table = start + view.getUint32(start + 4, little);
    const count = view.getUint16(table, little);
    for (let i = 0; i < count; i++) {
      const entry = table + 2 + 12 * i;
      if (view.getUint16(entry, little) === 0x0112) return view.getUint16(entry + 8, little);
    }
  } catch {
    // Damaged EXIF data: the picture is shown as it is.
  }
  return 0;
}
