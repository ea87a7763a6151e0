// The ways in which files come to the page: file dialogs, camera, dropping, pasting.

// Calls `take(files, wanted)` with an array of files, and with 'photograph' or 'style' if the person
// asked for one of them, else null. For what is dropped, a third argument says what pictures are.
export function listen(take, { overlay, halves, refuse }) {
  const pickers = { photo: 'photograph', camera: 'photograph', painting: 'style', 'painting-camera': 'style', model: 'style' };
  for (const [id, wanted] of Object.entries(pickers)) {
    document.getElementById(id).addEventListener('change', ({ target }) => {
      const files = [...target.files];
      target.value = ''; // so that the same file can be chosen again
      if (files.length) take(files, wanted);
    });
  }
  listenToDrops(take, overlay, halves, refuse);
  document.addEventListener('paste', (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) take(files, null);
    else refuse('The clipboard has no picture', 'Copy a picture, not a link or a text, and paste again.');
  });
}

// With `halves`, pictures dropped on the right half of the page are paintings.
function listenToDrops(take, overlay, halves, refuse) {
  let depth = 0; // entering a child comes before leaving its parent
  const show = () => { overlay.hidden = depth === 0; };
  const hasSomething = ({ dataTransfer }) => dataTransfer.types.length > 0;
  addEventListener('dragenter', (event) => {
    if (!hasSomething(event)) return;
    event.preventDefault();
    depth += 1;
    show();
  });
  addEventListener('dragleave', () => {
    depth = Math.max(0, depth - 1);
    show();
  });
  // Without this, the browser would open the file instead of the page.
  addEventListener('dragover', (event) => event.preventDefault());
  addEventListener('drop', (event) => {
    event.preventDefault();
    depth = 0;
    show();
    // Folders come as files without content, and only entries tell.
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.());
    const files = [...event.dataTransfer.files];
    if (entries.some((entry) => entry?.isDirectory)) {
      refuse('A folder cannot be dropped', 'Drop the pictures or styles in it.');
    } else if (files.length) {
      take(files, null, halves ? (event.clientX > innerWidth / 2 ? 'style' : 'photograph') : null);
    } else {
      refuse('This is not a file', 'Save the picture on this device first, then drop the file.');
    }
  });
}
