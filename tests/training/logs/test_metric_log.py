"""The metric log: averages, speed, and files that cannot be written."""

import json
import sys
from typing import NamedTuple

import helpers
import jax
import numpy as np
import pytest

from metastyle_jax.training.logs import log_files, metric_log


class LossAndInnerLosses(NamedTuple):
    outer: float
    inner: np.ndarray


def make_log(folder, start=0):
    return metric_log.MetricLog(folder, total=4, start=start, images=6)


def test_vectors_are_flattened_to_numbered_scalars():
    scalars = metric_log.scalars(LossAndInnerLosses(2.0, np.array([1.0, 3.0])))
    assert scalars == {'outer': 2.0, 'inner_1': 1.0, 'inner_2': 3.0}


def test_lines_are_averages_since_the_last_line(tmp_path):
    log = make_log(tmp_path)
    for step, value in enumerate((1.0, 3.0, 5.0), start=1):
        log.add(step, {'outer': value})
        if step != 1:
            log.flush(step)
    assert log.flush(4) == {}
    log.close()
    lines = [json.loads(line) for line in (tmp_path / log_files.JSON_FILE).read_text().splitlines()]
    assert [(line['step'], line['outer']) for line in lines] == [(2, 2.0), (3, 5.0)]
    assert all(line['images_per_second'] > 0 for line in lines)
    assert all(line['compile_seconds'] == 0 for line in lines)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves by hand, optionally while something compiles."""
    now = [100.0]
    monkeypatch.setattr(metric_log.time, 'monotonic', lambda: now[0])

    def advance(seconds, *, compiling=0.0):
        now[0] += seconds
        if compiling:
            jax.monitoring.record_event_duration_secs(metric_log._COMPILED, compiling)

    return advance


def test_the_speed_excludes_compilation_and_paused_blocks(tmp_path, clock):
    log = make_log(tmp_path)
    log.add(1, {'outer': 1.0})
    clock(10, compiling=7)
    with log.paused():
        clock(20, compiling=5)
        with log.paused():
            clock(1)
    log.add(2, {'outer': 1.0})
    line = log.flush(2)
    assert line['images_per_second'] == 2 * 6 / 3
    assert line['compile_seconds'] == 12
    log.add(3, {'outer': 1.0})
    clock(2)
    with log.paused():
        clock(1)
        assert log.flush(3)['images_per_second'] == 6 / 3  # the pause goes on
        clock(5)
    log.add(4, {'outer': 1.0})
    clock(1)
    assert log.flush(4)['images_per_second'] == 6
    log.close()


def test_the_speed_is_finite_if_compilation_takes_longer_than_the_window(tmp_path, clock):
    log = make_log(tmp_path)
    for step, seconds in ((1, 2), (2, 0)):
        log.add(step, {'outer': 1.0})
        clock(seconds, compiling=3)
        assert 0 < log.flush(step)['images_per_second'] < np.inf
    log.close()


DISK_FULL = """
    import json, pathlib, resource, sys
    import numpy as np
    from metastyle_jax.training.logs import log_files, metric_log
    folder = pathlib.Path(sys.argv[1])
    log = metric_log.MetricLog(folder, total=40, start=0, images=6)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, limits[1]))
    noise = np.random.default_rng(0).random((64, 64, 3), np.float32)
    for step in range(1, 41):
        log.add(step, {'outer': 1.0, 'content': 2.0, 'style': 3.0})
        log.flush(step)
        if sys.argv[2] == 'picture':
            log.picture(step, 'noise', noise)
    log.close()
    print(len((folder / log_files.JSON_FILE).read_text().splitlines()))
"""


@pytest.mark.skipif(sys.platform == 'win32', reason='limits of processes')
@pytest.mark.parametrize('what', ['scalars', 'picture'])
def test_a_full_disk_switches_tensorboard_off_with_one_warning(tmp_path, what):
    result = helpers.run_python(DISK_FULL, tmp_path, what, timeout=100)
    assert result.returncode == 0, result.stderr
    assert result.stdout == '40\n'
    assert result.stderr.count('TensorBoard is off') == 1
    assert 'Traceback' not in result.stderr
    assert 'ignored' not in result.stderr


def test_a_log_works_without_a_writable_tensorboard_folder(tmp_path):
    (tmp_path / 'tensorboard').write_text('a file is in the way')
    log = make_log(tmp_path)
    log.add(1, {'outer': 1.0})
    log.picture(1, 'picture', np.zeros((4, 4, 3), np.float32))
    assert log.flush(1)['outer'] == 1.0
    log.close()
