// The styles of the session: exported networks (.onnx), and norms, which were predicted from a
// painting or read from a style file. Norms can be weakened, blended and saved.

import { Cancelled } from './engine.js';
import { stem } from './files.js';
import { refuseStyle } from './messages.js';
import { decode, randomSquare, thumbnailOf } from './pictures.js';
import { mix } from './programs.js';
import { readable } from './reading.js';
import { sha256 } from './sha256.js';
import { recordOfBlend, recordOfPrediction, readStyles, writeStyle } from './style-files.js';

const MOST_THUMBNAILS = 24; // of one library: each takes a tenth of a second
const SCENE = 64; // pixels

// A small drawing. Painted in a style, it shows what styles without a picture of their own look like.
function drawScene() {
  const canvas = Object.assign(document.createElement('canvas'), { width: SCENE, height: SCENE });
  const context = canvas.getContext('2d');
  const sky = context.createLinearGradient(0, 0, 0, 64);
  sky.addColorStop(0, '#3f6fb5');
  sky.addColorStop(0.6, '#f3cf9d');
  const shape = (fill, draw) => { context.fillStyle = fill; context.beginPath(); draw(); context.fill(); };
  shape(sky, () => context.rect(0, 0, 64, 64));
  shape('#fff3c4', () => context.arc(46, 18, 8, 0, 7));
  shape('#5c7f57', () => context.ellipse(16, 66, 34, 26, 0, 0, 7));
  shape('#2f4d3c', () => context.ellipse(56, 70, 34, 22, 0, 0, 7));
  shape('#8a4b3a', () => context.rect(14, 30, 14, 14));
  return canvas;
}

export class Styles {
  #keys = 0;

  // `onChange` is called when the list, or a choice in it, has changed.
  constructor(engine, manifest, onChange) {
    Object.assign(this, { engine, manifest, onChange });
    this.list = []; // { key, name, hint, thumbnail, model, size } or { …, norms, record, grams }
    this.chosen = null;
    this.partner = null; // the style to blend with
    this.share = 0.5; // of the partner
    this.strength = 1;
  }

  // What the engine paints with, and its name; null if nothing is chosen.
  current() {
    const { chosen, partner, share, strength, manifest } = this;
    if (!chosen?.norms) return chosen && { ...chosen, style: chosen };
    const blended = this.#blends();
    const norms = blended ? mix([chosen.norms, partner.norms], [1 - share, share]) : chosen.norms;
    const name = blended ? `${chosen.name} and ${partner.name}` : chosen.name;
    const record = blended ? recordOfBlend(chosen, partner, share) : chosen.record;
    return { style: chosen, name, norms, strength, record, manifest };
  }

  #blends() {
    return this.partner && this.partner !== this.chosen;
  }

  // Styles that the chosen one can be blended with.
  partners() {
    return this.chosen?.norms ? this.list.filter((style) => style.norms && style !== this.chosen) : [];
  }

  choose(style) {
    this.chosen = style;
    if (this.partner && !this.partners().includes(this.partner)) this.partner = null;
    this.onChange();
  }

  remove(style) {
    const at = this.list.indexOf(style);
    this.list = this.list.filter((one) => one !== style);
    if (style.thumbnail) URL.revokeObjectURL(style.thumbnail);
    if (this.partner === style) this.partner = null;
    this.choose(this.chosen === style ? (this.list[Math.min(at, this.list.length - 1)] ?? null) : this.chosen);
    return at;
  }

  #add(style, chooseIt) {
    const added = { key: this.#keys++, hint: '', thumbnail: null, size: null, ...style };
    this.list.push(added);
    this.choose(chooseIt || !this.chosen ? added : this.chosen);
    return added;
  }

  // Opens an exported style, an .onnx file.
  async addModel(file, found, chooseIt) {
    if (found.missing) throw refuseStyle(file.name, found, null);
    // The bytes are copied, because files on a disk can change.
    const model = new Blob([await readable(file, () => file.arrayBuffer())]);
    const key = this.#keys++;
    for (;;) {
      try {
        const { size } = await this.engine.open({ key, model });
        const hint = size ? `only ${size[1]} × ${size[0]}` : '';
        const added = this.#add({ key, name: stem(file.name), model, size, hint }, chooseIt);
        if (!size) this.#paintThumbnail(added);
        return;
      } catch (error) {
        // Cancelling a painting also cancels the opening of styles, which nobody asked for.
        if (!(error instanceof Cancelled)) throw refuseStyle(file.name, found, error);
      }
    }
  }

  // Makes a style of a painting, a picture file.
  async addPainting(file, found, chooseIt, hint = '') {
    const bytes = new Uint8Array(await readable(file, () => file.arrayBuffer()));
    const { bitmap } = await decode(file, found);
    try {
      const { norms, grams } = await this.engine.predict(() => createImageBitmap(bitmap), found.name === 'a JPEG picture');
      const fileName = file.name || 'pasted picture';
      const record = recordOfPrediction(fileName, sha256(bytes), this.manifest);
      const thumbnail = await thumbnailOf(bitmap);
      await this.engine.open({ norms, strength: 1 }); // measures the speed, for the first forecast
      this.#add({ name: stem(fileName), norms, grams, record, thumbnail, hint }, chooseIt);
    } finally {
      bitmap.close();
    }
  }

  // Whether the chosen style can be refined: it was predicted, and the programs can do it.
  canRefine() {
    return Boolean(this.manifest?.refiner && this.chosen?.grams);
  }

  // Refines the chosen style by the learned steps of θ, on random parts of the photograph,
  // which `photo()` returns. `onStep(step, count)` is called before each step. If the person cancels,
  // the style stays as it was.
  async refine(photo, onStep) {
    const style = this.chosen, losses = [];
    const { steps, photo_side: side } = this.manifest.refiner;
    let { norms } = style;
    for (let step = 0; step < steps; step++) {
      onStep(step + 1, steps);
      const makeBitmap = () => createImageBitmap(randomSquare(photo(), side));
      const made = await this.engine.refine(norms, style.grams, makeBitmap, step);
      norms = made.norms;
      losses.push(made.loss);
    }
    const settings = { ...style.record.settings, steps, inner_steps: steps, size: side };
    // The Gram matrices are needed only once.
    const hint = [style.hint, 'refined'].filter(Boolean).join(', ');
    Object.assign(style, { norms, grams: null, hint, record: { ...style.record, settings, losses: { total: losses } } });
    this.onChange();
  }

  // Opens a style file or a library, a .safetensors file.
  async addFile(file, chooseIt) {
    const styles = await readable(file, () => readStyles(file, this.manifest));
    const library = styles.length > 1;
    const added = styles.map(({ name, norms, record }, i) => this.#add(
      { name: library ? stem(name) : stem(file.name), norms, record }, chooseIt && i === 0));
    for (const style of added.slice(0, MOST_THUMBNAILS)) this.#paintThumbnail(style);
    return added.length;
  }

  // Paints the thumbnail of a style, when the engine comes to it. Without one, the list shows a letter.
  async #paintThumbnail(style) {
    const scene = drawScene();
    const { norms, key, model } = style;
    const asked = norms ? { norms, strength: 1 } : { key, model };
    try {
      const { image } = await this.engine.paint(asked, () => createImageBitmap(scene), { measure: false });
      scene.getContext('2d').putImageData(image, 0, 0);
      style.thumbnail = await thumbnailOf(scene);
      this.onChange();
    } catch (error) {
      if (!(error instanceof Cancelled)) console.warn(error);
    }
  }

  // The chosen style, or the blend, as a style file: { blob, name }.
  save() {
    const current = this.current();
    return { blob: writeStyle(current, this.manifest), name: `${current.name}.safetensors` };
  }
}
