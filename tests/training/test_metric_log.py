"""Logs: averages, speed, and what happens when a log cannot be written."""

import json
import os
import sys
from typing import NamedTuple

import helpers
import jax
import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from metastyle_jax.core import errors
from metastyle_jax.training import log_files, metric_log


class LossAndInnerLosses(NamedTuple):
    outer: float
    inner: np.ndarray


def make_logger(folder, start=0):
    return metric_log.MetricLog(folder, total=4, start=start, images=6)


def test_vectors_become_numbered_scalars():
    found = metric_log.scalars(LossAndInnerLosses(2.0, np.array([1.0, 3.0])))
    assert found == {'outer': 2.0, 'inner_1': 1.0, 'inner_2': 3.0}


def test_lines_are_averages_since_the_last_line(tmp_path):
    log = make_logger(tmp_path)
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


def write_steps(folder, *steps, start=0):
    log = make_logger(folder, start=start)
    for step in steps:
        log.add(step, {'outer': float(step)})
        log.flush(step)
    log.close()


def written_steps(folder):
    lines = (folder / log_files.JSON_FILE).read_text().splitlines()
    return [json.loads(line)['step'] for line in lines]


def test_a_resumed_run_appends(tmp_path):
    write_steps(tmp_path, 1, 2)
    write_steps(tmp_path, 3, start=2)
    assert written_steps(tmp_path) == [1, 2, 3]


def test_a_resumed_run_takes_back_what_was_logged_after_its_checkpoint(tmp_path):
    write_steps(tmp_path, 2, 4, 6)
    with (tmp_path / log_files.JSON_FILE).open('a') as opened:
        opened.write('{"step": 3, "out')  # what a kill leaves
    write_steps(tmp_path, 4, 6, 8, start=3)
    assert written_steps(tmp_path) == [2, 4, 6, 8]
    assert sorted(os.listdir(tmp_path)) == [log_files.JSON_FILE, 'tensorboard']
    write_steps(tmp_path, 1)
    assert written_steps(tmp_path) == [1]


def events(folder):
    """The events of each file, in the order of the files."""
    for path in sorted((folder / 'tensorboard').iterdir()):
        data, found = path.read_bytes(), []
        while data:
            size = 16 + int.from_bytes(data[:8], 'little')  # and a checksum after either
            found.append(event_pb2.Event.FromString(data[12 : size - 4]))
            data = data[size:]
        yield found


def test_tensorboard_is_told_where_a_run_resumed(tmp_path):
    write_steps(tmp_path, 2, 4)
    write_steps(tmp_path, 4, start=3)
    before, after = events(tmp_path)
    assert before[0].file_version == after[0].file_version == 'brain.Event:2'
    found = [(x.step, x.summary.value[0].tag, x.summary.value[0].simple_value) for x in before[1:]]
    assert [x for x in found if x[1] == 'outer'] == [(2, 'outer', 2.0), (4, 'outer', 4.0)]
    assert (after[1].step, after[1].session_log.status) == (4, event_pb2.SessionLog.START)
    assert {x.step for x in after[2:]} == {4}


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when a test says so."""
    now = [100.0]
    monkeypatch.setattr(metric_log.time, 'monotonic', lambda: now[0])

    def advance(seconds, *, compiling=0.0):
        now[0] += seconds
        if compiling:
            jax.monitoring.record_event_duration_secs(metric_log._COMPILED, compiling)

    return advance


def test_neither_compiling_nor_pauses_count_in_the_speed(tmp_path, clock):
    log = make_logger(tmp_path)
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


def test_compiling_for_longer_than_the_window_lasts_leaves_a_finite_speed(tmp_path, clock):
    log = make_logger(tmp_path)
    for step, seconds in ((1, 2), (2, 0)):
        log.add(step, {'outer': 1.0})
        clock(seconds, compiling=3)
        assert 0 < log.flush(step)['images_per_second'] < np.inf
    log.close()


DISK_FULL = """
    import json, pathlib, resource, sys
    import numpy as np
    from metastyle_jax.training import log_files, metric_log
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
def test_a_full_disk_turns_tensorboard_off_once_and_training_goes_on(tmp_path, what):
    result = helpers.run_python(DISK_FULL, tmp_path, what, timeout=100)
    assert result.returncode == 0, result.stderr
    assert result.stdout == '40\n'
    assert result.stderr.count('TensorBoard is off') == 1
    assert 'Traceback' not in result.stderr
    assert 'ignored' not in result.stderr


def test_a_tensorboard_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / 'tensorboard').write_text('a file is in the way')
    log = make_logger(tmp_path)
    log.add(1, {'outer': 1.0})
    log.picture(1, 'picture', np.zeros((4, 4, 3), np.float32))
    assert log.flush(1)['outer'] == 1.0
    log.close()


def test_json_lines_that_cannot_be_written_are_named(tmp_path):
    log = make_logger(tmp_path)
    log.add(1, {'outer': 1.0})
    (tmp_path / log_files.JSON_FILE).mkdir()
    with pytest.raises(errors.UserError, match=r'metrics\.jsonl cannot be written'):
        log.flush(1)
    log.close()
    with pytest.raises(errors.UserError, match=r'metrics\.jsonl cannot be written'):
        make_logger(tmp_path)
