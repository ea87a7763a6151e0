// Resizes pictures as the Python package does, so that a painting gives the same style in both. The
// method is Lanczos with antialiasing, like that of Pillow; a canvas computes something else.

const LOBES = 3;

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

const lanczos = (x) => (Math.abs(x) < LOBES ? sinc(x) * sinc(x / LOBES) : 0);

// For each pixel of the result: the first pixel that it reads, and the weights of those it reads.
function weightsOf(from, to) {
  const scale = from / to, stretch = Math.max(1, scale), reach = LOBES * stretch;
  return Array.from({ length: to }, (_, i) => {
    const center = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - reach + 0.5));
    const end = Math.min(from, Math.trunc(center + reach + 0.5));
    const weights = Float64Array.from({ length: end - first },
      (_, k) => lanczos((first + k - center + 0.5) / stretch));
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((weight) => weight / sum) };
  });
}

// Resizes rows of RGB pixels, numbers in 0..1, from [height, width] to `size`, also [height, width].
export function resize(pixels, [height, width], [rows, columns]) {
  if (height === rows && width === columns) return pixels;
  const wide = new Float32Array(3 * height * columns);
  weightsOf(width, columns).forEach(({ first, weights }, x) => {
    for (let y = 0; y < height; y++) {
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum += weights[k] * pixels[3 * (y * width + first + k) + c];
        wide[3 * (y * columns + x) + c] = sum;
      }
    }
  });
  const made = new Float32Array(3 * rows * columns);
  weightsOf(height, rows).forEach(({ first, weights }, y) => {
    for (let i = 0; i < 3 * columns; i++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * wide[3 * (first + k) * columns + i];
      // The filter has negative lobes: near an edge it can leave the range.
      made[3 * y * columns + i] = Math.min(1, Math.max(0, sum));
    }
  });
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
