"""Damaged checkpoints are told apart from those that cannot be read at the moment."""

import gc
import logging

import helpers
import pytest
from checkpoint_helpers import cut_the_metric, largest_file, make_state, save_steps, truncate
from orbax import checkpoint as ocp

from metastyle_jax.storage import checkpoints, tensor_files, theta_files


def flip_a_byte(folder):
    file = largest_file(folder / 'state')
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 255
    file.write_bytes(data)


def remove_a_file(folder):
    largest_file(folder / 'state').unlink()


def name_an_unknown_kind_of_leaf(folder):
    file = folder / 'state' / '_METADATA'
    before, last = file.read_text().rsplit('"value_type": "', 1)
    file.write_text(f'{before}"value_type": "un{last}')


def remove_the_data_state(folder):
    (folder / 'meta' / 'metadata').unlink()


def flip_a_digit_of_the_data_state(folder):
    file = folder / 'meta' / 'metadata'
    text = file.read_text()
    assert r'\"at\": 3' in text
    file.write_text(text.replace(r'\"at\": 3', r'\"at\": 2'))


def hide_the_checksum_of_the_data_state(folder):
    file = folder / 'meta' / 'metadata'
    file.write_text(file.read_text().replace('meta_sha256', 'meta_sha25v'))


def flip_a_byte_of_the_metric(folder):
    file = folder / 'metrics' / 'metrics'
    file.write_text(file.read_text().replace('1.5', '1.7'))


def remove_the_metric(folder):
    (folder / 'metrics' / 'metrics').unlink()


@pytest.mark.parametrize(
    'damage',
    [
        truncate,
        flip_a_byte,
        remove_a_file,
        name_an_unknown_kind_of_leaf,
        remove_the_data_state,
        flip_a_digit_of_the_data_state,
        hide_the_checksum_of_the_data_state,
        flip_a_byte_of_the_metric,
        cut_the_metric,
        remove_the_metric,
    ],
)
def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path, caplog, damage):
    save_steps(tmp_path, 1, 2, 3, metric=1.5)
    damage(tmp_path / '3')
    caplog.set_level(logging.WARNING, 'metastyle_jax.storage.checkpoints')
    with checkpoints.Manager(tmp_path) as manager:
        restored = manager.restore(make_state())
        assert restored.step == 2
        helpers.assert_identical(restored.state, make_state(2))
        assert f'{tmp_path / "3"} is damaged' in caplog.text
        assert manager.latest_step() == 2
        assert manager.save(3, make_state(30), data_state={})  # the step can be reached again
        helpers.assert_identical(manager.restore(make_state()).state, make_state(30))
    assert (tmp_path / '3.damaged').is_dir()
    gc.collect()  # Python complains here of what Orbax has left unfinished


def test_a_file_among_checkpoints_is_put_aside_and_one_that_is_locked_is_named(tmp_path):
    save_steps(tmp_path / 'checkpoints', 1, metric=1.5)
    (tmp_path / 'checkpoints' / '5').write_text('')
    with pytest.raises(
        tensor_files.CheckpointError, match=r'checkpoints \[5\] in .* move these away'
    ):
        theta_files.load_theta(tmp_path)
    with checkpoints.Manager(tmp_path / 'checkpoints') as manager:
        assert manager.latest_step() == 1
    assert (tmp_path / 'checkpoints' / '5.damaged').is_file()
    metric = tmp_path / 'checkpoints' / '1' / 'metrics' / 'metrics'
    metric.unlink()
    metric.mkdir()  # the system's word for it is another error than a damaged file's
    for call in (
        lambda: theta_files.load_theta(tmp_path),
        lambda: checkpoints.Manager(tmp_path / 'checkpoints'),
    ):
        with pytest.raises(
            tensor_files.CheckpointError, match='metric of the checkpoint .* be intact'
        ):
            call()


def test_a_metric_that_cannot_be_read_spoils_no_other_checkpoint(tmp_path, caplog):
    save_steps(tmp_path / 'checkpoints', 1, 2, metric=1.5)
    cut_the_metric(tmp_path / 'checkpoints' / '1')
    with pytest.raises(
        tensor_files.CheckpointError, match=r'checkpoints \[1\] in .* move these away'
    ):
        theta_files.load_theta(tmp_path)  # which leaves a folder as it is
    with caplog.at_level(logging.WARNING, 'metastyle_jax.storage.checkpoints'):
        checkpoints.Manager(tmp_path / 'checkpoints').close()
    assert '1 is damaged: its metric' in caplog.text
    helpers.assert_identical(theta_files.load_theta(tmp_path).params, make_state(2).params)
    (tmp_path / 'checkpoints' / '1.damaged').rename(tmp_path / 'checkpoints' / '1')
    cut_the_metric(tmp_path / 'checkpoints' / '2')
    with pytest.raises(tensor_files.CheckpointError, match=r'whole \(tried \[1, 2\]'):
        checkpoints.Manager(tmp_path / 'checkpoints')  # so that training does not start anew
    assert sorted(x.name for x in (tmp_path / 'checkpoints').iterdir()) == ['1', '2']


@pytest.mark.parametrize(
    'error',
    [
        MemoryError(),
        PermissionError(13, 'Permission denied'),
        OSError(24, 'Too many open files'),
        ValueError('PERMISSION_DENIED: Error opening "zarr" driver'),
    ],
)
def test_a_checkpoint_that_cannot_be_read_now_is_left_alone(tmp_path, monkeypatch, error):
    save_steps(tmp_path / 'checkpoints', 1, 2)

    def fail(*_, **__):
        raise error

    with checkpoints.Manager(tmp_path / 'checkpoints') as manager:
        monkeypatch.setattr(ocp.CheckpointManager, 'restore', fail)
        for read in (
            lambda: manager.restore(make_state()),
            lambda: theta_files.load_theta(tmp_path),
        ):
            with pytest.raises(
                tensor_files.CheckpointError, match=r'/2 cannot be read \(.*be intact'
            ):
                read()
        monkeypatch.undo()
        assert manager.restore(make_state()).step == 2


def test_when_all_checkpoints_are_damaged_training_does_not_start_anew(tmp_path):
    save_steps(tmp_path, 1, 2)
    truncate(tmp_path / '1')
    truncate(tmp_path / '2')
    with checkpoints.Manager(tmp_path) as manager:
        with pytest.raises(
            tensor_files.CheckpointError, match=r'No checkpoint in .* is whole \(tried \[2, 1\]'
        ):
            manager.restore(make_state())
        assert manager.latest_step() == 2
