"""Several processes on one machine compute the same θ as one, stop together and end together."""

import select
import signal
import time

import numpy as np
import pytest
from process_helpers import EVERY, finish, folder, start, theta_of, wait_for

from metastyle_jax.core import errors
from metastyle_jax.core.devices import processes, watchdog


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp('xla')


def test_two_processes_train_as_one_stop_together_and_notice_a_lost_process(tmp_path, cache):
    one, two = tmp_path / 'one', tmp_path / 'two'
    codes, logs = finish(start(one, cache, '--config.steps=5'))
    assert codes == [0], logs
    # A signal to the second process stops both after the same step, with a checkpoint.
    started = start(two, cache, '--config.steps=100000', processes=2)
    for process in started:
        wait_for(process, 'first step')
    deadline = time.monotonic() + 100
    while not (two / 'checkpoints' / '5').exists():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.01)
    started[1].send_signal(signal.SIGTERM)
    codes, logs = finish(started)
    assert codes == [143, 143], logs
    stops = {line[9:] for log in logs for line in log.splitlines() if 'SIGTERM: stopped' in line}
    assert len(stops) == 1, logs
    assert (two / 'config.json').exists()
    np.testing.assert_allclose(theta_of(two, 5), theta_of(one, 5), rtol=0, atol=1e-6)
    # Both resume. When one is killed, the other notices, says so and ends.
    started = start(two, cache, '--config.steps=1000000', processes=2)
    for process in started:
        wait_for(process, 'resuming after step')
        wait_for(process, 'first step')
    started[1].kill()
    codes, logs = finish(started)
    assert codes == [watchdog.EXIT_LOST, -signal.SIGKILL], logs
    assert 'process 1 was lost' in logs[0]
    assert 'the same command resumes' in logs[0]


def test_a_user_error_in_one_process_ends_all_with_its_message(tmp_path, cache):
    folder = tmp_path / 'file'
    folder.write_text('')
    codes, logs = finish(start(folder, cache, processes=2))
    assert codes == [2, 2], logs
    assert all('it cannot be used' in log for log in logs)
    assert 'process 0 ended' in logs[1]


def test_processes_that_read_different_images_are_refused(tmp_path, cache):
    own = [f'--config.data.content=folder:{folder(tmp_path / x, 4)}' for x in ('one', 'two')]
    (tmp_path / 'two' / '2.png').unlink()
    codes, logs = finish(start(tmp_path / 'run', cache, EVERY, processes=2, own=own))
    assert codes == [2, 2], logs
    for log in logs:
        assert 'process 1 has other data than process 0 (content_names: ' in log
        assert 'contents: 4 there, 3 here' in log


@pytest.mark.parametrize(
    ('place', 'message'),
    [
        ({'coordinator': 'host:1234'}, 'coordinator=HOST:PORT .* processes=NUMBER'),
        ({'processes': 2}, 'coordinator=HOST:PORT .* processes=NUMBER'),
        ({'coordinator': 'host:1', 'processes': 2, 'process': 2}, 'process=2: .* at most 1'),
        ({'coordinator': 'host', 'processes': 2}, 'coordinator=host: it must be HOST:PORT'),
        ({'coordinator': 'host:1', 'processes': 2, 'heartbeat': 1}, 'heartbeat=1: .* at least 2'),
    ],
)
def test_impossible_places_are_refused_before_anything_starts(place, message):
    with (
        pytest.raises(errors.UserError, match=message),
        processes.joined(processes.Place(**place)),
    ):
        raise AssertionError('the block must not run')


def test_a_single_process_agrees_with_itself():
    with processes.joined(None):
        assert processes.is_first()
        assert processes.agree(3) == 3
        assert processes.from_first(lambda: {'a': [1]}) == {'a': [1]}
