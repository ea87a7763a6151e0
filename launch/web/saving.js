// The buttons that save: the painting as PNG or JPEG, or to the clipboard, and the style.

import { Refusal } from './messages.js';
import { download, toBlob } from './pictures.js';
import { say } from './view.js';

const $ = (id) => document.getElementById(id);

async function copy() {
  try {
    // Safari demands the promise itself: it must be made at once, while the click counts.
    await navigator.clipboard.write([new ClipboardItem({ 'image/png': toBlob($('after'), 'image/png') })]);
    say('Copied.');
  } catch (cause) {
    throw new Refusal('The picture could not be copied', 'The browser did not allow it. Save the picture instead.', { cause });
  }
}

// `guarded(step)` shows errors; `name()` is the name of the painting, and `style()` gives the chosen
// style as { blob, name }.
export function wireSaving(guarded, name, style) {
  const save = async (type, suffix) => download(await toBlob($('after'), type), `${name()}.${suffix}`);
  const on = (id, step) => $(id).addEventListener('click', () => guarded(step));
  on('png', () => save('image/png', 'png'));
  on('jpeg', () => save('image/jpeg', 'jpg'));
  on('copy', copy);
  on('save-style', async () => {
    const made = style();
    download(made.blob, made.name);
  });
  // Only secure pages (https, or this machine) may write to the clipboard.
  $('copy').hidden = !navigator.clipboard?.write || typeof ClipboardItem !== 'function';
}
