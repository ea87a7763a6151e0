// Reads what a person has given, and what the site has: files, and addresses.

import { Refusal } from './messages.js';

// A file may be gone or changed since it was chosen.
export async function readable(file, read) {
  try {
    return await read();
  } catch (cause) {
    if (cause instanceof Refusal) throw cause;
    throw new Refusal(`${file.name} cannot be read`, 'It was moved, changed or protected. Choose it again.', { cause });
  }
}

// Loads a file of this site: the addresses `?model=…&photo=…`, and samples.
export async function fetchFile(address) {
  const name = address.replace(/[?#].*$/, '').replace(/^.*\//, '');
  const refusal = (details) => new Refusal(`${name} could not be loaded`,
    'Check the address. For safety, this page loads files from its own site only.', { details });
  let response;
  try {
    response = await fetch(address);
  } catch (error) {
    throw refusal(error.message);
  }
  if (!response.ok) throw refusal(`${response.status} ${response.statusText}`);
  return new File([await response.blob()], decodeURIComponent(name));
}

// The list of samples of this site, { photographs, paintings, styles }; null if there are none.
export async function listSamples() {
  const answer = await fetch('samples/index.json').catch(() => null);
  const listed = answer?.ok ? await answer.json().catch(() => null) : null;
  const { photographs = [], paintings = [], styles = [] } = listed ?? {};
  return photographs.length + paintings.length + styles.length ? { photographs, paintings, styles } : null;
}

export const fetchSample = (file) => fetchFile(`samples/${encodeURIComponent(file)}`);
