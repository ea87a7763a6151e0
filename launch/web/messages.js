// What the page says when something goes wrong, in plain words: what happened, and what to do.

const ADAPT = 'metastyle adapt painting.jpg -o painting.safetensors';
const EXPORT = 'metastyle export painting.safetensors -o painting.onnx';
const ADAPT_NORMS = 'metastyle adapt painting.jpg --params=norm -o painting.safetensors';
const STYLIZE = 'metastyle stylize film.mp4 --style=painting.safetensors -o out.mp4';

// An error for people: a title, a text that says what to do, the commands that do it, and details for
// developers.
export class Refusal extends Error {
  constructor(title, advice, { commands = [], details = '', cause } = {}) {
    super(advice);
    this.title = title;
    this.commands = commands;
    this.details = details || (cause ? `${cause.message ?? cause}` : '');
  }
}

// A file that is neither a picture nor a style, or not the one of the two that was asked for.
export function refuseFile(file, { kind, name }, wanted) {
  const title = `${file.name || 'This file'} is not a ${wanted}`;
  const itIs = `It is ${name}.`;
  switch (kind) {
    case 'empty':
      return new Refusal(`${file.name || 'This file'} is empty`, 'Copy or download it again.');
    case 'picture':
      return new Refusal(title, `${itIs} To use a painting as a style, adapt the network to it, and ` +
        'export the result as an .onnx file:', { commands: [ADAPT, EXPORT] });
    case 'style':
      return new Refusal(title, 'It is a style. Choose it under “Style”.');
    case 'safetensors':
      return new Refusal(title, `${itIs} Browsers need it as an .onnx file:`, { commands: [EXPORT] });
    case 'page':
      return new Refusal(title, 'It is a web page: a server often sends one instead of a file that ' +
        'it does not have. Download the file again.');
    case 'pointer':
      return new Refusal(title, 'It is a pointer of Git LFS, not the file itself. Get the file:',
        { commands: ['git lfs pull'] });
    case 'video':
      return new Refusal(title, 'It is a video. This page paints single pictures; a command paints videos:',
        { commands: [STYLIZE] });
    default:
      if (wanted === 'photograph') return new Refusal(title, `${itIs} Choose a JPEG, PNG or WebP picture.`);
      return new Refusal(title, `${itIs} A style for this page is an .onnx file:`, { commands: [EXPORT] });
  }
}

// A picture that the browser cannot decode.
export function refusePicture(file, found, size, cause) {
  const title = `${file || 'The picture'} cannot be opened`;
  if (found.name === 'a HEIC photograph') {
    return new Refusal(title, 'It is a HEIC photograph, and this browser cannot read HEIC. Save it as ' +
      'JPEG, or open this page in Safari. An iPhone takes JPEG with Settings → Camera → Formats → ' +
      'Most Compatible.', { cause });
  }
  if (!/JPEG picture|PNG|GIF|WebP|BMP/.test(found.name)) {
    return new Refusal(title, `It is ${found.name}, which this browser cannot read. Save it as JPEG or PNG.`, { cause });
  }
  if (size && size[0] * size[1] > 1e8) {
    const megapixels = Math.round((size[0] * size[1]) / 1e6);
    return new Refusal(title, `It has ${size[0]} × ${size[1]} pixels, ${megapixels} megapixels. This is ` +
      'more than the browser can hold in memory. Reduce it in another program first.', { cause });
  }
  return new Refusal(title, 'The file is damaged or incomplete. Copy or download it again.', { cause });
}

// A .safetensors file that this page cannot use with its θ.
export function refuseTensors(file, why, cause) {
  switch (why) {
    case 'whole':
      return new Refusal(`${file} holds a whole network`, 'This page has a network already, and takes style ' +
        'files of instance norms. Adapt again with --params=norm, or export the style as an .onnx file:',
      { commands: [ADAPT_NORMS, EXPORT] });
    case 'other θ':
      return new Refusal(`${file} belongs to another θ`, 'It was adapted from another initialization than ' +
        'the one of this page, so the numbers do not fit. Adapt again from the θ of this page, or export ' +
        'the style as an .onnx file:', { commands: [EXPORT] });
    case 'theta':
      return new Refusal(`${file} is not a style`, 'It is an initialization θ. Adapt it to a painting:',
        { commands: [ADAPT_NORMS] });
    case 'version':
      return new Refusal(`${file} has another version`, 'This page reads version 1 of style files. Adapt ' +
        'again with the version of the package that belongs to this page:', { commands: [ADAPT_NORMS] });
    case 'foreign':
      return new Refusal(`${file} is not a style`, 'It is a .safetensors file of another program. A style ' +
        'file comes from this command:', { commands: [ADAPT_NORMS] });
    default:
      return new Refusal(`${file} is damaged`, 'Its numbers cannot be read. Copy or download it again, or ' +
        'adapt again:', { commands: [ADAPT_NORMS], cause });
  }
}

// A style that could not be opened. `missing` is the number of bytes that the file lacks.
export function refuseStyle(file, { missing = 0 }, cause) {
  const details = cause ? `${cause.message ?? cause}` : '';
  if (missing > 0) {
    return new Refusal(`${file} is incomplete`,
      `At least ${missing.toLocaleString('en')} bytes at its end are missing. Copy or download it again.`, { details });
  }
  if (/^not a style/.test(details)) {
    return new Refusal(`${file} is not a style`, 'It is an ONNX file of another program. This page needs ' +
      'an exported style:', { commands: [EXPORT], details });
  }
  return refuseRun(cause) ?? new Refusal(`${file} is damaged`, 'The network in it cannot be read. Copy, ' +
    'download or export it again.', { details });
}

// Failures that have nothing to do with the style: memory, and missing files of the page. Null for
// others.
export function refuseRun(cause) {
  const details = `${cause?.message ?? cause}`;
  if (/bad_alloc|out of memory|allocation failed|allocate|OOM|memory access out of bounds|Invalid typed array length/i.test(details)) {
    return new OutOfMemory(details);
  }
  if (/dynamically imported module|worker\.js could not|no available backend|Failed to fetch|Importing a module/i.test(details)) {
    return new Refusal('The page is incomplete', 'A file of the page could not be loaded. Check ' +
      'the connection and reload the page. If you serve the page: bash launch/web.sh copies all files.',
    { details });
  }
  if (/not finite/.test(details)) {
    return new Refusal('The style returned no colours', 'The numbers in the file are damaged. Copy, ' +
      'download or export the style again.', { details });
  }
  return null;
}

export class OutOfMemory extends Refusal {
  constructor(details) {
    super('The memory is full', 'The picture is too large for this device. Choose a smaller size, or ' +
      'close other tabs and programs.', { details });
  }
}

// More pixels than the device can take; `smaller` is the largest size that it can.
export class TooLarge extends Refusal {
  constructor(size, smaller) {
    const megapixels = ({ width, height }) => ((width * height) / 1e6).toFixed(1);
    super('The photograph is too large', `${size.width} × ${size.height} pixels are ${megapixels(size)} ` +
      `megapixels. This device can paint ${megapixels(smaller)} megapixels at once.`);
    this.smaller = smaller;
  }
}

export const describe = (error) => (error instanceof Refusal ? error : refuseRun(error)) ??
  new Refusal('Something unexpected happened', 'Reload the page and try again.', { cause: error });
