"""The files of a metric log."""

import json
import os

import pytest
from tensorboardX.proto import event_pb2

from metastyle_jax.core import errors
from metastyle_jax.training.logs import log_files, metric_log


def make_log(folder, start=0):
    return metric_log.MetricLog(folder, total=4, start=start, images=6)


def write_steps(folder, *steps, start=0):
    log = make_log(folder, start=start)
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


def test_a_resumed_run_drops_lines_after_its_checkpoint(tmp_path):
    write_steps(tmp_path, 2, 4, 6)
    with (tmp_path / log_files.JSON_FILE).open('a') as opened:
        opened.write('{"step": 3, "out')  # an unfinished line of a killed run
    write_steps(tmp_path, 4, 6, 8, start=3)
    assert written_steps(tmp_path) == [2, 4, 6, 8]
    assert sorted(os.listdir(tmp_path)) == [log_files.JSON_FILE, 'tensorboard']
    write_steps(tmp_path, 1)
    assert written_steps(tmp_path) == [1]


def events(folder):
    """Yields the list of events of each file, in order."""
    for path in sorted((folder / 'tensorboard').iterdir()):
        data, events_of_file = path.read_bytes(), []
        while data:
            size = 16 + int.from_bytes(data[:8], 'little')  # length and event each have a checksum
            events_of_file.append(event_pb2.Event.FromString(data[12 : size - 4]))
            data = data[size:]
        yield events_of_file


def test_tensorboard_events_mark_the_step_of_resumption(tmp_path):
    write_steps(tmp_path, 2, 4)
    write_steps(tmp_path, 4, start=3)
    before, after = events(tmp_path)
    assert before[0].file_version == after[0].file_version == 'brain.Event:2'
    scalars = [
        (x.step, x.summary.value[0].tag, x.summary.value[0].simple_value) for x in before[1:]
    ]
    assert [x for x in scalars if x[1] == 'outer'] == [(2, 'outer', 2.0), (4, 'outer', 4.0)]
    assert (after[1].step, after[1].session_log.status) == (4, event_pb2.SessionLog.START)
    assert {x.step for x in after[2:]} == {4}


def test_an_unwritable_file_of_json_lines_is_named(tmp_path):
    log = make_log(tmp_path)
    log.add(1, {'outer': 1.0})
    (tmp_path / log_files.JSON_FILE).mkdir()
    with pytest.raises(errors.UserError, match=r'metrics\.jsonl cannot be written'):
        log.flush(1)
    log.close()
    with pytest.raises(errors.UserError, match=r'metrics\.jsonl cannot be written'):
        make_log(tmp_path)
