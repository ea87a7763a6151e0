"""Saving: which checkpoints are kept, and what a kill or a full disk leaves."""

import signal

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_helpers import make_state, save_steps

from metastyle_jax.storage import checkpoints, tensor_files, theta_files


def test_sharded_and_replicated_arrays_are_saved_whole(tmp_path):
    mesh = jax.make_mesh((8,), ('x',))
    for spec in (jax.P('x'), jax.P()):
        x = jax.device_put(jnp.arange(16.0), jax.NamedSharding(mesh, spec))
        with checkpoints.Manager(tmp_path / str(spec)) as manager:
            manager.save(1, {'params': {'x': x}}, data_state={})
            found = manager.restore({'params': {'x': jax.ShapeDtypeStruct((16,), jnp.float32)}})
        np.testing.assert_array_equal(found.state['params']['x'], np.arange(16.0))


def test_a_checkpoint_opens_on_another_number_of_devices(tmp_path):
    save_steps(tmp_path / 'checkpoints', 2)
    result = helpers.run_python(
        """
        import sys, jax, checkpoint_helpers
        from metastyle_jax.storage import checkpoints, tensor_files
        assert jax.device_count() == 3, jax.device_count()
        with checkpoints.Manager(sys.argv[1]) as manager:
            found = manager.restore(checkpoint_helpers.make_state())
        print(tensor_files.fingerprint(found.state.params))
        """,
        tmp_path / 'checkpoints',
        xla_flags='--xla_force_host_platform_device_count=3 --xla_backend_optimization_level=0',
    )
    expected = theta_files.load_theta(tmp_path).fingerprint
    assert result.stdout.strip() == expected, result.stderr


def test_buffers_may_be_donated_as_soon_as_save_returns(tmp_path):
    overwrite = jax.jit(lambda x: x * 0 - 1, donate_argnums=0)
    x = jnp.arange(100_000.0)
    with checkpoints.Manager(tmp_path) as manager:
        manager.save(1, {'params': {'x': x}}, data_state={})
        x = overwrite(x)
        found = manager.restore({'params': {'x': x}})
    np.testing.assert_array_equal(found.state['params']['x'], np.arange(100_000.0))


def test_the_last_few_and_the_best_are_kept(tmp_path):
    metrics = {1: 5.0, 2: 1.0, 3: None, 4: float('nan'), 5: 3.0, 6: 4.0}
    with checkpoints.Manager(tmp_path, keep=2) as manager:
        for step, metric in metrics.items():
            manager.save(step, make_state(step), data_state={}, metric=metric)
        manager.wait()
        assert (manager.latest_step(), manager.best_step()) == (6, 2)
    assert sorted(x.name for x in tmp_path.iterdir() if x.name.isdigit()) == ['2', '5', '6']
    with checkpoints.Manager(tmp_path, keep=2) as manager:
        assert (manager.latest_step(), manager.best_step()) == (6, 2)
        manager.save(7, make_state(7), data_state={}, metric=0.5)
        manager.wait()
        assert manager.best_step() == 7
    assert sorted(x.name for x in tmp_path.iterdir() if x.name.isdigit()) == ['6', '7']


def test_saving_happens_at_multiples_of_every_unless_forced_and_once_a_step(tmp_path):
    with checkpoints.Manager(tmp_path, every=10) as manager:
        saved = [
            manager.save(step, {'params': {'x': jnp.ones(2)}}, data_state={}, force=force)
            for step, force in ((1, False), (10, False), (13, True), (13, True), (20, False))
        ]
        assert saved == [False, True, True, False, True]
        assert manager.latest_step() == 20
        assert manager.best_step() is None


def test_an_empty_folder_restores_nothing(tmp_path):
    with checkpoints.Manager(tmp_path / 'new') as manager:
        assert manager.restore(make_state()) is None
        assert manager.latest_step() is None
        assert manager.best_step() is None


@pytest.mark.parametrize('options', [{'keep': 0}, {'every': 0}])
def test_senseless_options_are_refused(tmp_path, options):
    with pytest.raises(tensor_files.CheckpointError, match='at least 1'):
        checkpoints.Manager(tmp_path, **options)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(tensor_files.CheckpointError, match=r'file/checkpoints: .* another workdir'):
        checkpoints.Manager(tmp_path / 'file' / 'checkpoints')


KILLED_WHILE_SAVING = """
    import os, signal, sys, jax.numpy as jnp, numpy as np
    from metastyle_jax.storage import checkpoints
    manager = checkpoints.Manager(sys.argv[1])
    manager.save(1, {'params': {'x': jnp.full(4, 1.0)}}, data_state={'at': 1})
    manager.wait()
    # 40 MB of noise take longer to write than the process has left to live.
    noise = np.random.default_rng(0).random(10_000_000, np.float32)
    manager.save(2, {'params': {'x': jnp.full(4, 2.0)}, 'y': noise}, data_state={'at': 2})
    while not any(name.startswith('2') for name in os.listdir(sys.argv[1])):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_killed_while_saving_leaves_the_checkpoint_before_and_starts_again(tmp_path):
    assert helpers.run_python(KILLED_WHILE_SAVING, tmp_path).returncode == -signal.SIGKILL
    assert not (tmp_path / '2').exists(), 'the process was not killed during the save'
    abstract = {'params': {'x': jnp.zeros(4)}}
    with checkpoints.Manager(tmp_path) as manager:
        restored = manager.restore(abstract)
        assert (restored.step, restored.data_state) == (1, {'at': 1})
        np.testing.assert_array_equal(restored.state['params']['x'], np.ones(4))
        assert manager.save(2, abstract, data_state={})
    steps = sorted(x.name for x in tmp_path.iterdir() if x.name[0].isdigit())
    assert steps == ['1', '2']
    assert sum(x.stat().st_size for x in tmp_path.rglob('*')) < 1_000_000  # nothing is left over


DISK_FULL = """
    import resource, sys, jax.numpy as jnp, numpy as np
    from metastyle_jax.storage import checkpoints, tensor_files
    abstract = {'params': {'x': jnp.zeros(1_000_000)}}
    noise = np.random.default_rng(0).random(1_000_000, np.float32)
    manager = checkpoints.Manager(sys.argv[1])
    manager.save(1, {'params': {'x': noise}}, data_state={})
    manager.wait()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    for attempt in range(2):
        try:
            manager.save(2, {'params': {'x': noise + 1}}, data_state={})
            manager.wait()
        except tensor_files.CheckpointError as error:
            print(error)
    assert manager.latest_step() == 1
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    restored = manager.restore(abstract)
    assert restored.step == 1 and (np.asarray(restored.state['params']['x']) == noise).all()
    assert manager.save(2, {'params': {'x': noise + 2}}, data_state={})
    assert manager.restore(abstract).step == 2
    manager.close()
    print('done')
"""


def test_a_full_disk_is_told_and_harms_no_other_checkpoint(tmp_path):
    result = helpers.run_python(DISK_FULL, tmp_path)
    lines = result.stdout.splitlines()
    assert result.returncode == 0, result.stderr
    assert len(lines) == 3
    assert lines[2] == 'done'
    for line in lines[:2]:
        assert str(tmp_path) in line
        assert 'Free some space' in line
    assert not result.stderr  # no traceback
