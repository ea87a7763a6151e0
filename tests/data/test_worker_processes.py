"""Worker processes give the same batches and end with their parent."""

import hashlib
import json
import os
import signal
import subprocess
import sys

import helpers
import numpy as np
import pytest
from batch_helpers import SETTINGS, assert_same, take

from metastyle_jax.data import batching


def test_the_number_of_workers_changes_no_batch(contents, styles):
    expected = take(batching.meta_batches(contents, styles, **SETTINGS), 7)
    for workers in (1, 2):
        found = take(batching.meta_batches(contents, styles, workers=workers, **SETTINGS), 7)
        assert_same(found, expected)
        assert all(type(x) is np.ndarray for x in found[0])


SCRIPT = """
import hashlib, json, signal, sys
from metastyle_jax.data import batching, image_source, image_stream, sources

if __name__ == '__main__':
    # Python loses an interrupt that comes in a callback, of the collector for one.
    interrupts = []
    signal.signal(signal.SIGINT, lambda *_: interrupts.append(True))
    contents, styles, settings, state, forever = json.loads(sys.argv[1])
    batches = batching.meta_batches(
        sources.open_source(contents, kind='content'),
        sources.open_source(styles, kind='style'),
        workers=2,
        **settings,
    )
    batches.set_state(state)
    print(hashlib.sha256(b''.join(x.tobytes() for x in next(batches))).hexdigest(), flush=True)
    while forever:
        next(batches)
        if interrupts:
            raise KeyboardInterrupt
"""


def start_script(tmp_path, contents, styles, state, *, forever, code=SCRIPT):
    """Runs a plain script, which parses no absl flags, in a session of its own."""
    path = tmp_path / 'script.py'
    path.write_text(code)
    root = helpers.ROOT
    return subprocess.Popen(
        [sys.executable, path, json.dumps([contents.word, styles.word, SETTINGS, state, forever])],
        env=os.environ | {'PYTHONPATH': str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_fresh_process_resumes_from_the_state(tmp_path, contents, styles):
    batches = batching.meta_batches(contents, styles, **SETTINGS)
    take(batches, 2)
    script = start_script(tmp_path, contents, styles, batches.get_state(), forever=False)
    output, errors = script.communicate(timeout=60)
    (batch,) = take(batches, 1)
    assert output.strip() == hashlib.sha256(b''.join(x.tobytes() for x in batch)).hexdigest()
    assert script.returncode == 0
    assert errors == ''


@pytest.mark.skipif(sys.platform == 'win32', reason='signals to process groups')
def test_workers_end_with_a_killed_parent_and_keep_quiet_on_interrupt(tmp_path, contents, styles):
    state = batching.meta_batches(contents, styles, **SETTINGS).get_state()
    scripts = [start_script(tmp_path, contents, styles, state, forever=True) for _ in range(2)]
    for script in scripts:
        assert script.stdout.readline()
    scripts[0].kill()
    os.killpg(scripts[1].pid, signal.SIGINT)
    # The pipes reach their end only when every process that holds them, the workers too, is gone.
    scripts[0].communicate(timeout=60)
    _, errors = scripts[1].communicate(timeout=60)
    assert errors.count('Traceback') == 1
    assert 'KeyboardInterrupt' in errors
    assert 'spawn_main' not in errors


STOPPED = """
import json, signal, sys
from metastyle_jax.data import batching, image_source, image_stream, sources

if __name__ == '__main__':
    contents, styles, settings, _, end = json.loads(sys.argv[1])
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    opened = [sources.open_source(word, kind='content') for word in (contents, styles)]
    batches = batching.meta_batches(*opened, workers=2, **settings)
    next(batches)
    print('begun', flush=True)
    while not told:
        next(batches)
    for _ in range(50):  # more than the workers had read ahead
        next(batches)
    if end == 'close':
        batches.close()
    elif end == 'drop':
        del batches
"""


@pytest.mark.skipif(sys.platform == 'win32', reason='signals to process groups')
@pytest.mark.parametrize('end', ['close', 'drop', 'exit'])
def test_workers_leave_sigterm_to_their_parent_and_end_with_it(tmp_path, contents, styles, end):
    script = start_script(tmp_path, contents, styles, None, forever=end, code=STOPPED)
    assert script.stdout.readline() == 'begun\n'
    os.killpg(script.pid, signal.SIGTERM)
    # Grain kills workers that have not ended after 25 s; a worker that nobody ends stays for ever.
    _, errors = script.communicate(timeout=20)
    assert errors == ''
    assert script.returncode == 0


def test_a_script_without_a_main_guard_is_told_that_a_worker_ended(tmp_path, contents, styles):
    code = SCRIPT.replace("if __name__ == '__main__':", 'if True:')
    state = batching.meta_batches(contents, styles, **SETTINGS).get_state()
    script = start_script(tmp_path, contents, styles, state, forever=False, code=code)
    _, errors = script.communicate(timeout=60)
    assert script.returncode == 1
    assert 'DataError: One of the 2 data workers ended unexpectedly' in errors
