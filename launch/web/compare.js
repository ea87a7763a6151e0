// The slider between the original and the painting. An input of type range does the work, so that
// keyboards and screen readers can use it; the pointer moves it from anywhere on the picture.

export function makeCompare(figure) {
  const range = figure.querySelector('input');
  let shown = false;

  function update() {
    figure.style.setProperty('--split', `${range.value}%`);
    range.setAttribute('aria-valuetext', `${range.value} % original, ${100 - range.value} % painting`);
  }

  function follow(event) {
    const { left, width } = figure.getBoundingClientRect();
    range.value = Math.round((100 * (event.clientX - left)) / width);
    update();
  }

  range.addEventListener('input', update);
  figure.addEventListener('pointerdown', (event) => {
    if (range.hidden || event.button !== 0) return;
    figure.setPointerCapture(event.pointerId);
    follow(event);
    range.focus({ preventScroll: true });
    event.preventDefault();
  });
  figure.addEventListener('pointermove', (event) => {
    if (figure.hasPointerCapture(event.pointerId)) follow(event);
  });

  return {
    // Shows the original alone, or with the painting.
    show(withPainting) {
      for (const part of figure.querySelectorAll('#after, #split, #handle, .chip')) {
        part.hidden = !withPainting;
      }
      if (withPainting && !shown) range.value = 50;
      shown = withPainting;
      update();
    },
  };
}
