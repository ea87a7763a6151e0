// Sizes in which photographs are painted, and what the page says of them.

import { Refusal, TooLarge } from './messages.js';
import { crop, fit, mostPixels } from './pictures.js';
import { LEAST } from './stylize.js';

// Size in which a photograph will be painted. `side` is the wanted length of the longer side, or
// 'original'. Throws a Refusal if the network cannot take it.
export function sizeToPaint(photo, style, side) {
  if (style.size) return { height: style.size[0], width: style.size[1] };
  const size = fit(photo, side === 'original' ? Infinity : Number(side));
  const { width, height } = size;
  if (Math.min(width, height) < LEAST) {
    throw new Refusal('The picture is too narrow', `In this size it would have ${width} × ${height} ` +
      `pixels. Both sides must have at least ${LEAST} pixels: choose a larger size.`);
  }
  const most = mostPixels();
  if (width * height > most) throw new TooLarge(size, fit(photo, Infinity, most));
  return size;
}

// What the page says after a painting.
export function report(size, bitmap, milliseconds) {
  const cropped = Math.max(...crop(bitmap, size).slice(0, 2)) >= 1;
  return `${size.width} × ${size.height} pixels in ${(milliseconds / 1000).toFixed(milliseconds < 1000 ? 2 : 1)} s.` +
    (cropped ? ' The style takes one size only, so the edges were cut off.' : '');
}
