// Runs onnxruntime-node: jobs as lines of JSON on standard input, answers out. See worker.py.
// Usage: node worker.mjs FOLDER, where FOLDER holds node_modules.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { resolve } from 'node:path';

const ort = createRequire(resolve(process.argv[2], 'x.js'))('onnxruntime-node');
let session;

async function answer(job) {
  if (job.open) {
    session = await ort.InferenceSession.create(job.open, { intraOpNumThreads: 2 });
    return {};
  }
  const { buffer, byteOffset, byteLength } = readFileSync(job.run);
  const bytes = buffer.slice(byteOffset, byteOffset + byteLength);
  const data = job.dtype === 'uint8' ? new Uint8Array(bytes) : new Float32Array(bytes);
  const start = performance.now();
  const { stylized } = await session.run({ images: new ort.Tensor(job.dtype, data, job.shape) });
  const seconds = (performance.now() - start) / 1000;
  writeFileSync(job.out, stylized.data);
  return { seconds, dtype: stylized.type };
}

for await (const line of createInterface({ input: process.stdin })) {
  const said = await answer(JSON.parse(line)).catch((error) => ({ error: `${error.message}` }));
  console.log(JSON.stringify(said));
}
