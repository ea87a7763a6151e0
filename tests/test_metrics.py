"""Logs: averages, speed, and what happens when a log cannot be written."""

import json
from typing import NamedTuple

import numpy as np
import pytest

from metastyle_jax import metrics, types


class Found(NamedTuple):
    outer: float
    inner: np.ndarray


def make_logger(folder):
    return metrics.Logger(folder, total=4, start=0, images=6)


def test_vectors_become_numbered_scalars():
    found = metrics.scalars(Found(2.0, np.array([1.0, 3.0])))
    assert found == {'outer': 2.0, 'inner_1': 1.0, 'inner_2': 3.0}


def test_lines_are_averages_since_the_last_line(tmp_path):
    log = make_logger(tmp_path)
    for step, value in enumerate((1.0, 3.0, 5.0), start=1):
        log.add(step, {'outer': value})
        if step != 1:
            log.flush(step)
    assert log.flush(4) == {}
    log.close()
    lines = [json.loads(line) for line in (tmp_path / metrics.JSON_FILE).read_text().splitlines()]
    assert [(line['step'], line['outer']) for line in lines] == [(2, 2.0), (3, 5.0)]
    assert all(line['images_per_second'] > 0 for line in lines)
    assert all(line['compile_seconds'] == 0 for line in lines)


def test_a_resumed_run_appends(tmp_path):
    for step in (1, 2):
        log = make_logger(tmp_path)
        log.add(step, {'outer': 1.0})
        log.flush(step)
        log.close()
    assert len((tmp_path / metrics.JSON_FILE).read_text().splitlines()) == 2


def test_a_tensorboard_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / 'tensorboard').write_text('a file is in the way')
    log = make_logger(tmp_path)
    log.add(1, {'outer': 1.0})
    log.picture(1, 'picture', np.zeros((4, 4, 3), np.float32))
    assert log.flush(1)['outer'] == 1.0
    log.close()


def test_json_lines_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / metrics.JSON_FILE).mkdir()
    log = make_logger(tmp_path)
    log.add(1, {'outer': 1.0})
    with pytest.raises(types.UserError, match=r'metrics\.jsonl cannot be written'):
        log.flush(1)
    log.close()
