// The page: what a person has chosen, and what happens then.

import { makeCompare } from './compare.js';
import { Cancelled, chooseBackend, Engine, missingInBrowser } from './engine.js';
import { recognise, stem } from './files.js';
import { listen } from './inputs.js';
import { describe, OutOfMemory, refuseFile, refuseStyle, Refusal } from './messages.js';
import { showMixing, wireMixing } from './mixing.js';
import { decode, draw, fit } from './pictures.js';
import { loadManifest } from './programs.js';
import { fetchFile, fetchSample, listSamples, readable } from './reading.js';
import { wireSaving } from './saving.js';
import { report, sizeToPaint } from './sizes.js';
import { LEAST } from './stylize.js';
import { Styles } from './styles.js';
import * as view from './view.js';

const $ = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search);
const compare = makeCompare($('compare'));

let engine, styles;
let manifest = null; // of the programs for any painting; null if the site has none
let photo = null; // { name, width, height, bitmap }, where the bitmap may be smaller
let painted = null; // { name, style, text }: name for files, and what the status tells
let painting = false, busy = false, again = false, refreshing = false;
let last = Promise.resolve(); // one piece of work after the other
let cancelled = 0; // how often a person has cancelled

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

// Runs a piece of work alone, with progress; what waits for its turn ends if somebody cancels.
async function work(text, expected, step) {
  const before = last, count = cancelled;
  let done;
  last = new Promise((resolve) => { done = resolve; });
  await before;
  let end = () => {};
  try {
    if (count !== cancelled) throw new Cancelled('cancelled');
    busy = true;
    update();
    view.say(text);
    end = view.showProgress(expected());
    return await step();
  } finally {
    busy = false;
    end();
    done();
  }
}

function cancel() {
  cancelled += 1;
  again = false;
  engine.cancel();
}

// Takes files from a dialog, a drop or the clipboard. `pictures` says what pictures are.
async function take(files, wanted, pictures = wanted) {
  view.clearRefusal();
  let first = true;
  for (const file of files) {
    await guarded(async () => {
      const found = await readable(file, () => recognise(file));
      const damaged = found.kind === 'other' && /\.onnx$/i.test(file.name);
      const isStyle = wanted !== 'photograph' && (found.kind === 'style' || (manifest && (
        found.kind === 'safetensors' || (found.kind === 'picture' && isPainting(pictures)))));
      if (isStyle) {
        await addStyle(file, found, first);
        first = false;
      } else if (damaged && wanted !== 'photograph') throw refuseStyle(file.name, found, null);
      else if (found.kind === 'picture' && wanted !== 'style') await setPhoto(file, found);
      else throw refuseFile(file, found, wanted ?? 'photograph or style');
    });
  }
}

// Whether a picture is a painting. If nobody said so: the first is the photograph, the next a painting.
const isPainting = (pictures) => (pictures ? pictures === 'style' : photo && !styles.chosen);

async function setPhoto(file, found, credit = '') {
  const decoded = await decode(file, found);
  if (painting) engine.cancel();
  photo?.bitmap.close();
  photo = { name: file.name || 'pasted picture', ...decoded };
  const { name, width, height, note } = photo;
  $('photo-name').textContent = [`${name}, ${width} × ${height} pixels.`, note,
    credit && `Photograph: ${credit}.`].filter(Boolean).join(' ');
  preview();
  refresh();
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
  $('paint').setAttribute('aria-disabled', !(photo && styles.chosen && !busy));
  $('refine').setAttribute('aria-disabled', busy);
  $('refine').hidden = $('refine-hint').hidden = !(photo && styles.canRefine());
  if (!busy) view.say(whatNext());
}

// Takes the gradient steps for which θ has learned rates.
async function refine() {
  if (busy || !photo || !styles.canRefine()) return;
  const { name } = styles.chosen;
  const onStep = (step, count) => view.say(`Refining ${name}: step ${step} of ${count}…`);
  await guarded(async () => {
    await work(`Refining ${name}…`, () => null, () => styles.refine(() => photo.bitmap, onStep));
    refresh();
  });
}

function whatNext() {
  const style = styles.current();
  if (painted && painted.style === style?.style) return painted.text;
  if (photo && style) return `Ready to paint in the style ${style.name}.`;
  const add = manifest ? 'Now choose a painting.' : 'Now add a style.';
  if (photo) return add;
  if (style) return 'Now choose a photograph.';
  return manifest ? 'Choose a photograph and a painting.' : 'Choose a photograph and a style.';
}

// Adds a style to the list. Of several files at once, the first becomes the chosen one.
async function addStyle(file, found, chooseIt = true, hint = '') {
  const name = stem(file.name);
  if (found.kind === 'style') {
    if (chooseIt && !busy) view.say(`Opening ${name}…`);
    await styles.addModel(file, found, chooseIt);
  } else if (found.kind === 'picture') {
    await work(`Looking at ${name}…`, () => null, () => styles.addPainting(file, found, chooseIt, hint));
  } else await styles.addFile(file, chooseIt);
  update();
  if (chooseIt) refresh();
}

function showStyles() {
  view.showStyles(styles, {
    onChoose: (style) => { styles.choose(style); refresh(); },
    onRemove: remove,
  });
  showMixing(styles);
  $('side').disabled = Boolean(styles.chosen?.size); // the style has the last word
  update();
}

function remove(style) {
  const at = styles.remove(style);
  const buttons = $('styles').querySelectorAll('.remove');
  (buttons[Math.min(at, buttons.length - 1)] ?? $('model')).focus();
  view.say(`Removed ${style.name}.`);
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

// With the programs for any painting, the page paints at once whenever a choice has changed.
async function refresh() {
  if (!manifest || !photo || !styles.chosen) return;
  again = true;
  if (refreshing) return;
  refreshing = true;
  while (again) {
    again = false;
    await paint();
  }
  refreshing = false;
}

async function paint(wantedSize = null) {
  if (!photo || !styles.chosen) return update();
  view.clearRefusal();
  await guarded(async () => {
    const style = styles.current(), { bitmap, name } = photo;
    const size = wantedSize ?? sizeToPaint(photo, style, $('side').value);
    const pixels = size.width * size.height;
    const text = `Painting ${size.width} × ${size.height} pixels…`;
    await work(text, () => engine.speed && engine.speed * pixels, async () => {
      if (photo?.bitmap !== bitmap) return; // another photograph was chosen meanwhile
      painting = true;
      // A painting of the same photograph stays until the next one is there.
      const keep = painted && $('before').width === size.width && $('before').height === size.height;
      painted = null;
      draw($('before'), bitmap, size);
      if (!keep) view.showPicture(compare, false, { photo: name });
      $('stage').scrollIntoView({ block: 'nearest' });
      try {
        const { image, milliseconds } = await engine.paint(style, () => createImageBitmap($('before')));
        Object.assign($('after'), size).getContext('2d').putImageData(image, 0, 0);
        painted = { name: `${stem(name)}-${style.name}`, style: style.style, text: report(size, bitmap, milliseconds) };
        view.showPicture(compare, true, { photo: name, style: style.name });
      } finally {
        painting = false;
        if (!painted) view.showPicture(compare, false, { photo: name });
      }
    });
    update();
  }, smaller);
}

async function takeSamples({ photographs, paintings, styles: models }) {
  for (const { file, credit } of photographs.slice(0, 1)) {
    const one = await fetchSample(file);
    await setPhoto(one, await recognise(one), credit);
    $('model').focus({ preventScroll: true }); // the button that was pressed is gone
  }
  const given = [...(manifest ? paintings : []), ...models.map((file) => ({ file }))];
  for (const [i, { file, credit }] of given.entries()) {
    const one = await fetchSample(file);
    await addStyle(one, await recognise(one), i === 0, credit);
    if (i === 0) $('paint').focus({ preventScroll: Boolean(manifest) });
  }
}

function wire() {
  listen(take, {
    overlay: $('drop'),
    halves: Boolean(manifest),
    refuse: (title, advice) => view.showRefusal(new Refusal(title, advice)),
  });
  $('paint').addEventListener('click', () => (busy ? update() : paint()));
  $('refine').addEventListener('click', refine);
  $('cancel').addEventListener('click', cancel);
  addEventListener('keydown', ({ key }) => key === 'Escape' && busy && cancel());
  wireSaving(guarded, () => painted.name, () => styles.save());
  $('side').addEventListener('change', refresh);
  wireMixing(styles, refresh);
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
  const folder = new URL('programs/', location.href).href;
  const [choice, found] = await Promise.all([chooseBackend(asked.get('backend')), loadManifest(folder)]);
  manifest = found;
  engine = new Engine({ ...choice, folder, manifest }, {
    onFallback: (reason) => view.showBackend(engine, `The graphics card failed (${reason}).`),
  });
  styles = new Styles(engine, manifest, showStyles);
  view.showBackend(engine);
  view.showAbilities(manifest);
  wire();
  update();
  guarded(() => engine.start()); // so that the first painting need not wait for the runtime
  const kept = [choice.backend === 'webgpu' && 'webgpu', manifest && 'programs'].filter(Boolean).join('&');
  navigator.serviceWorker?.register(`offline.js${kept && `?${kept}`}`).catch(() => {}); // it works without, online
  const samples = await listSamples();
  $('samples').hidden = !samples;
  $('samples').addEventListener('click', () => guarded(() => takeSamples(samples)));
  const given = [['photo', 'photograph'], ['model', 'style'], ['painting', 'style']].filter(([name]) => asked.has(name));
  for (const [name, wanted] of given) {
    await guarded(async () => take([await fetchFile(asked.get(name))], wanted));
  }
  if (given.length === 2 && !manifest) await paint();
}

guarded(begin);
