// The page: what a person has chosen, and what happens then.

import { makeCompare } from './compare.js';
import { Cancelled, chooseBackend, Engine, missingInBrowser } from './engine.js';
import { recognise, stem } from './files.js';
import { listen } from './inputs.js';
import { describe, OutOfMemory, refuseFile, refuseStyle, Refusal, TooLarge } from './messages.js';
import { crop, decode, download, draw, fit, mostPixels, toBlob } from './pictures.js';
import { LEAST } from './stylize.js';
import * as view from './view.js';

const $ = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
const compare = makeCompare($('compare'));

let engine;
let photo = null; // { name, width, height, bitmap }, where the bitmap may be smaller
let styles = []; // { key, name, model: Blob, size: [height, width] or null }
let chosen = null; // one of them
let painted = null; // { name, style, text }: name for files, and what the status tells
let painting = false;
let keys = 0;

// Runs a step and shows what goes wrong in it, so that no error is lost.
async function guarded(step, action = null) {
  try {
    return await step();
  } catch (error) {
    if (error instanceof Cancelled) {
      update();
      return view.say(`Cancelled. ${whatNext()}`);
    }
    const refusal = describe(error);
    view.showRefusal(refusal, action?.(refusal));
    update();
    if (!(error instanceof Refusal)) console.error(error);
  }
}

// Takes files from a dialog, a drop or the clipboard.
async function take(files, wanted) {
  view.clearRefusal();
  let first = true;
  for (const file of files) {
    await guarded(async () => {
      const found = await readable(file, () => recognise(file));
      const damaged = found.kind === 'other' && /\.onnx$/i.test(file.name);
      if (found.kind === 'style' && wanted !== 'photograph') {
        await addStyle(file, found, first);
        first = false;
      } else if (damaged && wanted !== 'photograph') throw refuseStyle(file.name, found, null);
      else if (found.kind === 'picture' && wanted !== 'style') await setPhoto(file, found);
      else throw refuseFile(file, found, wanted ?? 'photograph or style');
    });
  }
}

// A file may be gone or changed since it was chosen.
async function readable(file, read) {
  try {
    return await read();
  } catch (cause) {
    throw new Refusal(`${file.name} cannot be read`, 'It was moved, changed or protected. Choose it again.', { cause });
  }
}

async function setPhoto(file, found, credit = '') {
  const decoded = await decode(file, found);
  if (painting) engine.cancel();
  photo?.bitmap.close();
  photo = { name: file.name || 'pasted picture', ...decoded };
  const { name, width, height, note } = photo;
  $('photo-name').textContent = [`${name}, ${width} × ${height} pixels.`, note,
    credit && `Photograph: ${credit}.`].filter(Boolean).join(' ');
  preview();
}

// Shows the photograph as it will be painted, before it is.
function preview() {
  painted = null;
  if (photo) {
    const { bitmap, name } = photo;
    draw($('before'), bitmap, fit(bitmap, 1024));
    view.showPicture(compare, false, { photo: name });
  }
  update();
}

function update() {
  $('paint').setAttribute('aria-disabled', !(photo && chosen && !painting));
  if (!painting) view.say(whatNext());
}

function whatNext() {
  if (painted && painted.style === chosen) return painted.text;
  if (photo && chosen) return `Ready to paint in the style ${chosen.name}.`;
  if (photo) return 'Now add a style.';
  return chosen ? 'Now choose a photograph.' : 'Choose a photograph and a style.';
}

// Opens a style and adds it to the list. Of several files at once, the first becomes the chosen one.
async function addStyle(file, found, chooseIt = true) {
  if (found.missing) throw refuseStyle(file.name, found, null);
  // The bytes are copied, because files on a disk can change.
  const model = new Blob([await readable(file, () => file.arrayBuffer())]);
  const style = { key: keys++, name: stem(file.name), model, size: null };
  if (chooseIt && !painting) view.say(`Opening ${style.name}…`);
  for (;;) {
    try {
      style.size = (await engine.open({ key: style.key, model })).size;
      break;
    } catch (error) {
      // Cancelling a painting also cancels the opening of styles, which nobody asked for.
      if (!(error instanceof Cancelled)) throw refuseStyle(file.name, found, error);
    }
  }
  styles.push(style);
  choose(chooseIt || !chosen ? style : chosen);
}

function choose(style) {
  chosen = style;
  view.showStyles(styles, chosen, { onChoose: choose, onRemove: remove });
  $('side').disabled = Boolean(style?.size); // the style has the last word
  update();
}

function remove(style) {
  const at = styles.indexOf(style);
  styles = styles.filter((one) => one !== style);
  choose(chosen === style ? (styles[Math.min(at, styles.length - 1)] ?? null) : chosen);
  const next = $('styles').querySelectorAll('.remove')[Math.min(at, styles.length - 1)];
  (next ?? $('model')).focus();
  view.say(`Removed ${style.name}.`);
}

// Size in which the photograph will be painted. Throws a Refusal if the network cannot take it.
function sizeToPaint() {
  if (chosen.size) return { height: chosen.size[0], width: chosen.size[1] };
  const side = $('side').value === 'original' ? Infinity : Number($('side').value);
  const size = fit(photo, side);
  const { width, height } = size;
  if (Math.min(width, height) < LEAST) {
    throw new Refusal('The picture is too narrow', `In this size it would have ${width} × ${height} ` +
      `pixels. Both sides must have at least ${LEAST} pixels: choose a larger size.`);
  }
  const most = mostPixels();
  if (width * height > most) throw new TooLarge(size, fit(photo, Infinity, most));
  return size;
}

// The button of an error about size: paint a smaller picture.
function smaller(refusal) {
  let size = refusal.smaller;
  if (refusal instanceof OutOfMemory && photo) {
    const { width, height } = $('before');
    size = fit(photo, Math.max(width, height) / 2);
  }
  if (!size || Math.min(size.width, size.height) < LEAST) return null;
  return { label: `Paint in ${size.width} × ${size.height}`, run: () => paint(size) };
}

async function paint(wantedSize = null) {
  if (painting || !photo || !chosen) return update();
  view.clearRefusal();
  await guarded(async () => {
    const size = wantedSize ?? sizeToPaint();
    const style = chosen, { bitmap, name } = photo;
    painting = true;
    painted = null;
    draw($('before'), bitmap, size);
    view.showPicture(compare, false, { photo: name });
    update();
    view.say(`Painting ${size.width} × ${size.height} pixels…`);
    $('stage').scrollIntoView({ block: 'nearest' });
    const end = view.showProgress(engine.speed && engine.speed * size.width * size.height);
    try {
      const { image, milliseconds } = await engine.paint(style, () => createImageBitmap($('before')));
      Object.assign($('after'), size).getContext('2d').putImageData(image, 0, 0);
      const cropped = isCropped(bitmap, size) ? ' The style takes one size only, so the edges were cut off.' : '';
      const text = `${size.width} × ${size.height} pixels in ${(milliseconds / 1000).toFixed(milliseconds < 1000 ? 2 : 1)} s.${cropped}`;
      painted = { name: `${stem(name)}-${style.name}`, style, text };
      view.showPicture(compare, true, { photo: name, style: style.name });
    } finally {
      end();
      painting = false;
    }
    update();
  }, smaller);
}

function isCropped(bitmap, size) {
  const [x, y] = crop(bitmap, size);
  return Math.max(x, y) >= 1;
}

async function save(type) {
  const blob = await toBlob($('after'), type);
  download(blob, `${painted.name}.${type === 'image/png' ? 'png' : 'jpg'}`);
}

async function copy() {
  try {
    // Safari demands the promise itself: it must be made at once, while the click counts.
    await navigator.clipboard.write([new ClipboardItem({ 'image/png': toBlob($('after'), 'image/png') })]);
    view.say('Copied.');
  } catch (cause) {
    throw new Refusal('The picture could not be copied', 'The browser did not allow it. Save the picture instead.', { cause });
  }
}

// Loads a file of this site: the addresses `?model=…&photo=…`, and samples.
async function fetchFile(address) {
  const name = address.replace(/[?#].*$/, '').replace(/^.*\//, '');
  const refusal = (details) => new Refusal(`${name} could not be loaded`,
    'Check the address. For safety, this page loads files from its own site only.', { details });
  let response;
  try {
    response = await fetch(address);
  } catch (error) {
    throw refusal(error.message);
  }
  if (!response.ok) throw refusal(`${response.status} ${response.statusText}`);
  return new File([await response.blob()], name);
}

async function takeSamples({ photographs = [], styles: models = [] }) {
  for (const { file, credit } of photographs.slice(0, 1)) {
    const one = await fetchFile(`samples/${encodeURIComponent(file)}`);
    await setPhoto(one, await recognise(one), credit);
    $('model').focus(); // the button that was pressed is gone
  }
  for (const [i, file] of models.entries()) {
    const one = await fetchFile(`samples/${encodeURIComponent(file)}`);
    await addStyle(one, await recognise(one), i === 0);
    if (i === 0) $('paint').focus();
  }
}

async function offerSamples() {
  const answer = await fetch('samples/index.json').catch(() => null);
  const listed = answer?.ok ? await answer.json().catch(() => null) : null;
  if (!listed?.photographs?.length && !listed?.styles?.length) return;
  $('samples').hidden = false;
  $('samples').addEventListener('click', () => guarded(() => takeSamples(listed)));
}

function wire() {
  listen(take, {
    overlay: $('drop'),
    refuse: (title, advice) => view.showRefusal(new Refusal(title, advice)),
  });
  $('paint').addEventListener('click', () => paint());
  $('cancel').addEventListener('click', () => engine.cancel());
  addEventListener('keydown', ({ key }) => key === 'Escape' && painting && engine.cancel());
  $('png').addEventListener('click', () => guarded(() => save('image/png')));
  $('jpeg').addEventListener('click', () => guarded(() => save('image/jpeg')));
  $('copy').addEventListener('click', () => guarded(copy));
  // Only secure pages (https, or this machine) may write to the clipboard.
  $('copy').hidden = !navigator.clipboard?.write || typeof ClipboardItem !== 'function';
  addEventListener('unhandledrejection', (event) => {
    event.preventDefault();
    view.showRefusal(describe(event.reason));
  });
  addEventListener('error', ({ error }) => error && view.showRefusal(describe(error)));
}

async function begin() {
  const missing = missingInBrowser();
  if (missing) {
    view.say('This page cannot work in this browser.');
    view.showRefusal(new Refusal('This browser is too old for this page',
      `It lacks ${missing}. Use a current Chrome, Edge, Firefox or Safari.`));
    return;
  }
  const choice = await chooseBackend(asked.get('backend'));
  engine = new Engine(choice, {
    onFallback: (reason) => view.showBackend(engine, `The graphics card failed (${reason}).`),
  });
  view.showBackend(engine);
  wire();
  update();
  guarded(() => engine.start()); // so that the first painting need not wait for the runtime
  const suffix = choice.backend === 'webgpu' ? '?webgpu' : '';
  navigator.serviceWorker?.register(`offline.js${suffix}`).catch(() => {}); // it works without, online
  await offerSamples();
  const given = [['photo', 'photograph'], ['model', 'style']].filter(([name]) => asked.has(name));
  for (const [name, wanted] of given) {
    await guarded(async () => take([await fetchFile(asked.get(name))], wanted));
  }
  if (given.length === 2) await paint();
}

guarded(begin);
