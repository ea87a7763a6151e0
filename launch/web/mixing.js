// The controls that mix: strength of the style, and a blend with another style.

const $ = (id) => document.getElementById(id);
const NONE = '';

// Calls `refresh` when a person has moved a control to its end, and tells values meanwhile.
export function wireMixing(styles, refresh) {
  for (const id of ['strength', 'share']) {
    $(id).addEventListener('input', () => {
      styles[id] = $(id).valueAsNumber / 100;
      tell(styles);
    });
    $(id).addEventListener('change', refresh);
  }
  $('partner').addEventListener('change', () => {
    styles.partner = styles.partners().find(({ key }) => `${key}` === $('partner').value) ?? null;
    showMixing(styles);
    refresh();
  });
}

// Shows the controls if the chosen style can be mixed.
export function showMixing(styles) {
  const { chosen, partner } = styles;
  $('mixing').hidden = $('save-style').hidden = !chosen?.norms;
  const partners = styles.partners();
  $('blend').hidden = partners.length === 0;
  const options = [new Option('no other style', NONE), ...partners.map(({ key, name }) => new Option(name, key))];
  $('partner').replaceChildren(...options);
  $('partner').value = partner ? `${partner.key}` : NONE;
  $('share-row').hidden = !partner;
  tell(styles);
}

function tell({ chosen, partner, strength, share }) {
  const percent = (part) => `${Math.round(100 * part)} %`;
  $('strength').value = 100 * strength;
  $('strength-value').textContent = percent(strength);
  $('share').value = 100 * share;
  $('share-value').textContent = partner ? `${percent(1 - share)} ${chosen.name}, ${percent(share)} ${partner.name}` : '';
}
