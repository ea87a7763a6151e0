// Service worker: keeps the files of the page, so that it also works without a network. It asks the
// network first, so that a changed page is never hidden by an old copy.

const CACHE = 'page';
const FILES = [
  './', 'index.html', 'style.css', 'icon.svg', 'icon-192.png', 'app.webmanifest', 'app.js', 'compare.js',
  'engine.js', 'files.js', 'inputs.js', 'messages.js', 'mixing.js', 'orientation.js', 'pictures.js',
  'programs.js', 'reading.js', 'resize.js', 'safetensors.js', 'saving.js', 'sha256.js', 'sizes.js',
  'style-files.js', 'styles.js', 'stylize.js', 'view.js', 'worker.js',
  'onnxruntime-web/ort.wasm.bundle.min.mjs', 'onnxruntime-web/ort-wasm-simd-threaded.wasm',
];
const WEBGPU = [
  'onnxruntime-web/ort.webgpu.bundle.min.mjs', 'onnxruntime-web/ort-wasm-simd-threaded.asyncify.wasm',
];
const PROGRAMS = ['programs/manifest.json', 'programs/predictor.onnx', 'programs/transformer.onnx'];
// The page adds `webgpu` to the address of this file where it computes on a graphics card, and
// `programs` where the site has the programs for any painting.
const asked = new URLSearchParams(self.location.search);
const files = [...FILES, ...(asked.has('webgpu') ? WEBGPU : []), ...(asked.has('programs') ? PROGRAMS : [])];

self.addEventListener('install', (event) => {
  self.skipWaiting();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(files)));
});

self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));

self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET' || new URL(request.url).origin !== self.location.origin) return;
  event.respondWith(answer(event));
});

async function answer(event) {
  const cache = await caches.open(CACHE);
  let response;
  try {
    response = await fetch(event.request);
  } catch (error) {
    const kept = await cache.match(event.request, { ignoreSearch: true });
    if (kept) return kept;
    throw error;
  }
  // What the page asks for now, it will need again: samples, too. A full disk is no reason to fail.
  if (response.status === 200) {
    event.waitUntil(cache.put(event.request, response.clone()).catch(() => {}));
  }
  return response;
}
