// What the page shows: status, errors, progress, the list of styles. It decides nothing.

const $ = (id) => document.getElementById(id);

export function say(text) {
  $('status').textContent = text;
}

// Shows an error with its advice. `action`, { label, run }, becomes a button that mends it.
export function showRefusal(refusal, action = null) {
  const box = $('error');
  const heading = element('strong', refusal.title);
  const text = element('p', refusal.message);
  const buttons = element('div');
  buttons.className = 'row';
  if (action) buttons.append(button(action.label, () => { clearRefusal(); action.run(); }, 'primary'));
  buttons.append(button('Close', () => { clearRefusal(); $('paint').focus(); }));
  box.replaceChildren(heading, text);
  if (refusal.commands.length) {
    const commands = element('pre');
    commands.append(element('code', refusal.commands.join('\n')));
    box.append(commands);
  }
  if (refusal.details) {
    const details = element('details');
    details.append(element('summary', 'Details'), element('code', refusal.details));
    box.append(details);
  }
  box.append(buttons);
  // On a phone, what went wrong may be above the part of the page that is seen.
  box.scrollIntoView({ block: 'nearest' });
}

export function clearRefusal() {
  $('error').replaceChildren();
}

// Shows progress from now on. `expected` is the time it should take in milliseconds; null if unknown.
// Returns a function that ends it.
export function showProgress(expected) {
  const begun = performance.now();
  const update = () => {
    const passed = performance.now() - begun;
    const seconds = (milliseconds) => `${Math.max(1, Math.round(milliseconds / 1000))} s`;
    if (expected && passed < expected) {
      $('progress').value = passed / expected;
      $('remaining').textContent = `about ${seconds(expected - passed)} left`;
    } else {
      $('progress').removeAttribute('value');
      $('remaining').textContent = passed < 1000 ? '' : `${seconds(passed)} so far`;
    }
  };
  update();
  const timer = setInterval(update, 200);
  $('busy').hidden = false;
  return () => {
    clearInterval(timer);
    // A person who tabbed to “Cancel” must not lose the place.
    const focused = document.activeElement === $('cancel');
    $('busy').hidden = true;
    if (focused) $('paint').focus();
  };
}

export function showBackend({ backend, threads }, trouble = '') {
  const processor = `processor (WebAssembly, ${threads} ${threads === 1 ? 'thread' : 'threads'})`;
  $('backend').textContent =
    `Computes on the ${backend === 'webgpu' ? 'graphics card (WebGPU)' : processor}.${trouble && ` ${trouble}`}`;
}

// Shows the list of styles. `onChoose(style)` and `onRemove(style)` are called by its controls. Rows
// that were there stay, so that the keyboard does not lose its place.
export function showStyles({ list, chosen }, { onChoose, onRemove }) {
  const old = new Map([...$('styles').children].map((row) => [row.dataset.key, row]));
  const rows = list.map((style) => {
    const row = old.get(`${style.key}`) ?? makeRow(style, onChoose, onRemove);
    row.querySelector('input').checked = style === chosen;
    row.querySelector('.hint').textContent = style.hint;
    const image = row.querySelector('img');
    image.hidden = !style.thumbnail;
    if (style.thumbnail && image.src !== style.thumbnail) image.src = style.thumbnail;
    row.querySelector('.letter').hidden = Boolean(style.thumbnail);
    old.delete(`${style.key}`);
    return row;
  });
  for (const row of old.values()) row.remove();
  const there = $('styles').children;
  rows.forEach((row, i) => { if (there[i] !== row) $('styles').append(row); });
  $('no-style').hidden = list.length > 0;
}

function makeRow(style, onChoose, onRemove) {
  const row = $('style-row').content.cloneNode(true).firstElementChild;
  row.dataset.key = style.key;
  row.querySelector('input').addEventListener('change', () => onChoose(style));
  row.querySelector('.name').textContent = style.name;
  row.querySelector('.letter').textContent = [...style.name][0].toUpperCase();
  const remove = row.querySelector('.remove');
  remove.setAttribute('aria-label', `Remove ${style.name}`);
  remove.addEventListener('click', () => onRemove(style));
  return row;
}

// Shows what the page can do: with the programs of θ, it takes paintings as styles.
export function showAbilities(manifest) {
  for (const part of document.querySelectorAll('.any-painting')) part.hidden = !manifest;
  for (const part of document.querySelectorAll('.no-painting')) part.hidden = Boolean(manifest);
}

// Shows a picture before it is painted, or with the painting.
export function showPicture(compare, withPainting, { photo, style = null }) {
  $('empty').hidden = true;
  $('compare').hidden = false;
  const { width, height } = $('before');
  $('compare').style.setProperty('--ratio', width / height);
  $('before').setAttribute('aria-label', `Photograph ${photo}`);
  $('after').setAttribute('aria-label', `Photograph ${photo} in the style ${style}`);
  compare.show(withPainting);
  $('save').hidden = !withPainting;
}

function element(tag, text = '') {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

function button(label, onClick, className = '') {
  const made = element('button', label);
  made.type = 'button';
  made.className = className;
  made.addEventListener('click', onClick);
  return made;
}
