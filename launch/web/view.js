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

// Shows the list of styles. `onChoose(style)` and `onRemove(style)` are called by its controls.
export function showStyles(styles, chosen, { onChoose, onRemove }) {
  const rows = styles.map((style) => {
    const row = $('style-row').content.cloneNode(true).firstElementChild;
    const radio = row.querySelector('input');
    radio.checked = style === chosen;
    radio.addEventListener('change', () => onChoose(style));
    row.querySelector('.name').textContent = style.name;
    row.querySelector('.hint').textContent =
      style.size ? `only ${style.size[1]} × ${style.size[0]}` : '';
    const remove = row.querySelector('.remove');
    remove.setAttribute('aria-label', `Remove ${style.name}`);
    remove.addEventListener('click', () => onRemove(style));
    return row;
  });
  $('styles').replaceChildren(...rows);
  $('no-style').hidden = styles.length > 0;
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
