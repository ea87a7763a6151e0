"""Runs one client in its own environment: jobs as lines of JSON on standard input, answers out.

Usage: PYTHON worker.py OPENER FOLDER, where OPENER is a function of `runtimes`.

| job | answer |
|---|---|
| `{"open": FILE, "size": [H, W]}` | `{}` |
| `{"run": FILE, "shape": [1, H, W, 3], "dtype": D, "out": FILE}` | `{"seconds": S, "dtype": D}` |
| `{"coreml": FILE}` | `{}` |

Images are files of their bytes alone. A job that fails has the answer `{"error": TEXT}`.
"""

# mypy: disable-error-code="import-not-found"
import json
import os
import pathlib
import sys
import time
from typing import Any

import numpy as np
import runtimes  # lies beside this file


def main(opener: str, folder: pathlib.Path) -> None:
    """Does jobs until there are no more."""
    answers = os.fdopen(os.dup(1), 'w')
    os.dup2(2, 1)  # what the runtimes print must not be between the answers
    opened: list[runtimes.Run] = []
    for line in sys.stdin:
        try:
            answer = _do(json.loads(line), opener, folder, opened)
        except BaseException as error:  # Rust's panics are no Exception
            first = (str(error).strip() or ' ').splitlines()[0]
            answer = {'error': f'{type(error).__name__}: {first[:300]}'}
        answers.write(json.dumps(answer) + '\n')
        answers.flush()


def _do(
    job: dict[str, Any], opener: str, folder: pathlib.Path, opened: list[runtimes.Run]
) -> dict[str, Any]:
    """Does one job; `opened` holds the program that is open."""
    if 'coreml' in job:
        runtimes.coreml(pathlib.Path(job['coreml']), folder)
        return {}
    if 'open' in job:
        opened.clear()
        opened.append(getattr(runtimes, opener)(pathlib.Path(job['open']), job['size'], folder))
        return {}
    images = np.fromfile(job['run'], job['dtype']).reshape(job['shape'])
    start = time.perf_counter()
    made = np.ascontiguousarray(opened[0](images))
    seconds = time.perf_counter() - start
    if made.shape != images.shape:
        raise ValueError(f'the output has the shape {made.shape}')
    made.tofile(job['out'])
    return {'seconds': seconds, 'dtype': made.dtype.name}


if __name__ == '__main__':
    main(sys.argv[1], pathlib.Path(sys.argv[2]).resolve())
