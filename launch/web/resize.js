// Resizes pictures as the Python package does, so that a painting gives the same style in both. The
// method is Lanczos with antialiasing, like that of Pillow; a canvas computes something else.

const LOBES = 3;

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

const lanczos = (x) => (Math.abs(x) < LOBES ? sinc(x) * sinc(x / LOBES) : 0);

// For each of `to` pixels: the first of `count` pixels that it reads, and the weights of those it reads.
// The `to` pixels cover `length` of the others.
function weightsOf(count, to, length = count) {
  const scale = length / to, stretch = Math.max(1, scale), reach = LOBES * stretch;
  return Array.from({ length: to }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - reach + 0.5));
    const end = Math.min(count, Math.trunc(center + reach + 0.5));
    const weights = Float64Array.from({ length: end - first },
      (_, k) => lanczos((first + k - center + 0.5) / stretch));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

const clip = (x) => Math.min(1, Math.max(0, x));
const toLevel = (x) => Math.round(255 * clip(x)) / 255;

// Resizes rows of RGB pixels, numbers in 0..1, from [height, width] to `size`, also [height, width].
// `inLevels` rounds after each of the two passes, as a program does that computes with bytes. `lengths`
// is the height and width that the result covers, if it is not the whole picture.
export function resize(pixels, [height, width], [rows, columns], { inLevels = false, lengths = [height, width] } = {}) {
  if (height === rows && width === columns) return pixels;
  const wide = new Float32Array(3 * height * columns);
  weightsOf(width, columns, lengths[1]).forEach(({ first, weights }, x) => {
    for (let y = 0; y < height; y++) {
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * pixels[3 * (y * width + first + k) + c];
        wide[3 * (y * columns + x) + c] = inLevels ? toLevel(sum) : sum;
      }
    }
  });
  const made = new Float32Array(3 * rows * columns);
  weightsOf(height, rows, lengths[0]).forEach(({ first, weights }, y) => {
    for (let i = 0; i < 3 * columns; i++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * wide[3 * (first + k) * columns + i];
      // The filter has negative lobes: near an edge it can leave the range.
      made[3 * y * columns + i] = inLevels ? toLevel(sum) : clip(sum);
    }
  });
  return made;
}

// Resizes a painting. Python divides both sides of a large one by a whole number first, which is
// faster, and then computes with bytes; with JPEG files it always computes with bytes.
export function resizePainting(pixels, [height, width], size, isJpeg) {
  const factor = Math.max(1, Math.min(Math.floor(height / (2 * size[0])), Math.floor(width / (2 * size[1]))));
  if (factor === 1) return resize(pixels, [height, width], size, { inLevels: isJpeg });
  const small = reduce(pixels, [height, width], factor);
  const sides = [height, width].map((side) => Math.ceil(side / factor));
  return resize(small, sides, size, { inLevels: true, lengths: [height / factor, width / factor] });
}

// Means of squares of pixels; at the end of rows and columns, of what is left of a square. Of four bytes,
// every fourth mean lies halfway between two levels. Python rounds it up, so no rounding error of a sum
// may put it below the half.
function reduce(pixels, [height, width], factor) {
  const rows = Math.ceil(height / factor), columns = Math.ceil(width / factor);
  const made = new Float64Array(3 * rows * columns);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = 3 * (Math.floor(y / factor) * columns + Math.floor(x / factor));
      for (let c = 0; c < 3; c++) made[at + c] += pixels[3 * (y * width + x) + c];
    }
  }
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const count = Math.min(factor, height - y * factor) * Math.min(factor, width - x * factor);
      for (let c = 0; c < 3; c++) made[3 * (y * columns + x) + c] = toLevel(made[3 * (y * columns + x) + c] / count + 1e-6);
    }
  }
  return made;
}

// Height and width of a picture of the same shape with the area of a square.
export function sizeOfArea(side, height, width, least) {
  const scale = side / Math.sqrt(height * width);
  return [height, width].map((length) => Math.max(least, roundHalfEven(length * scale)));
}

// Rounds as Python does: a half goes to the even number.
function roundHalfEven(x) {
  const rounded = Math.round(x);
  return x % 1 === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
