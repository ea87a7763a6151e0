import gc
import json
import logging
import os
import signal

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from checkpoint_helpers import make_state, save_steps
from orbax import checkpoint as ocp

from metastyle_jax.storage import checkpoints, run_folder, style_files, tensor_files, theta_files


def largest_file(folder):
    return max((x for x in folder.rglob('*') if x.is_file()), key=lambda x: x.stat().st_size)


# Checkpoints.


def test_restored_state_is_identical_to_the_last_bit(tmp_path):
    state = make_state(3)
    awkward = jnp.array([np.nan, -0.0, np.inf, 1e-45], jnp.float32)
    state = state._replace(
        params=state.params | {'awkward': awkward, 'half': jnp.ones(3, jnp.bfloat16)},
        rng={'one': state.rng, 'many': jax.random.split(jax.random.key(0, impl='rbg'), 3)},
    )
    data_state = {'position': np.int64(5), 'names': ['a', None]}
    with checkpoints.Manager(tmp_path / 'checkpoints') as manager:
        assert manager.save(3, state, data_state=data_state)
        restored = manager.restore(state)
    assert restored.step == 3
    assert restored.data_state == data_state
    helpers.assert_identical(restored.state, state)


def test_shapes_alone_are_enough_to_restore(tmp_path):
    save_steps(tmp_path, 4)
    with checkpoints.Manager(tmp_path) as manager:
        restored = manager.restore(jax.eval_shape(lambda: make_state(4)))
    state = make_state(4)
    helpers.assert_identical(restored.state, state._replace(step=jnp.asarray(4, jnp.int32)))
    assert not restored.state.params['conv']['kernel'].committed


def test_restored_arrays_can_be_mapped_over_all_devices(tmp_path):
    save_steps(tmp_path, 1)
    with checkpoints.Manager(tmp_path) as manager:
        params = manager.restore(make_state()).state.params
    mapped = jax.pmap(lambda p, x: p['norm']['bias'] * x, in_axes=(None, 0))
    x = jnp.arange(8.0)
    assert mapped(params, x).shape == (8, 4)


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


def truncate(folder):
    file = largest_file(folder / 'state')
    os.truncate(file, file.stat().st_size // 2)


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


def cut_the_metric(folder):
    os.truncate(folder / 'metrics' / 'metrics', 9)


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


def test_checkpoints_of_older_versions_are_read(tmp_path):
    save_steps(tmp_path, 1, metric=1.5)
    file = tmp_path / '1' / 'meta' / 'metadata'
    meta = json.loads(file.read_text())
    file.write_text(json.dumps({name: meta[name] for name in ('sha256', 'keys', 'data_state')}))
    with checkpoints.Manager(tmp_path) as manager:
        assert manager.restore(make_state()).data_state == {'at': 1}


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


def test_another_structure_shape_or_type_is_refused_by_name(tmp_path):
    save_steps(tmp_path, 1)
    state = make_state()
    wider = state._replace(params=state.params | {'extra': jnp.ones(1)})
    shaped = state._replace(params=jax.tree.map(lambda x: x[:2], state.params))
    typed = state._replace(params=jax.tree.map(lambda x: x.astype(jnp.bfloat16), state.params))
    with checkpoints.Manager(tmp_path) as manager:
        with pytest.raises(tensor_files.CheckpointError, match='lacks the tensor params/extra'):
            manager.restore(wider)
        with pytest.raises(
            tensor_files.CheckpointError, match=r'kernel .*\(3, 3, 2, 4\), expected \(2, 3'
        ):
            manager.restore(shaped)
        with pytest.raises(tensor_files.CheckpointError, match='is float32, expected bfloat16'):
            manager.restore(typed)
        with pytest.raises(
            tensor_files.CheckpointError, match=r'rng .* the shape \(2,\), expected \(4,\)'
        ):
            manager.restore(state._replace(rng=jax.random.key(0, impl='rbg')))
        manager.save(2, {'rng': jax.random.key(0, impl='rbg')}, data_state={})
        with pytest.raises(tensor_files.CheckpointError, match=r'is key<rbg>, expected key<urbg>'):
            manager.restore({'rng': jax.random.key(0, impl='unsafe_rbg')})


def test_data_state_that_is_no_json_is_named(tmp_path):
    with (
        checkpoints.Manager(tmp_path) as manager,
        pytest.raises(tensor_files.CheckpointError, match='object .* cannot be saved'),
    ):
        manager.save(1, make_state(), data_state={'x': object()})


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


def test_orbax_keeps_silent_when_all_is_well(tmp_path):
    result = helpers.run_python(
        """
        import sys, checkpoint_helpers
        from metastyle_jax.storage import theta_files
        from absl import logging
        logging.use_absl_handler()
        logging.set_verbosity(logging.INFO)
        checkpoint_helpers.save_steps(sys.argv[1] + '/checkpoints', 1, 2)
        theta_files.load_theta(sys.argv[1])
        logging.info('spoken')
        """,
        tmp_path,
    )
    # The first line is absl's, about itself.
    _, chosen, line = [x for x in result.stderr.splitlines() if x]
    assert chosen.endswith(f'θ: step 2 of {tmp_path} (latest of 2)')
    assert line.endswith('spoken')


# θ.


@pytest.fixture
def trained_run(tmp_path):
    """A training run of which step 2 is the best and step 3 the latest."""
    run_folder.write_config(tmp_path / 'run', {'inner': {'steps': 3}})
    with checkpoints.Manager(tmp_path / 'run' / 'checkpoints') as manager:
        for step, metric in ((1, 3.0), (2, 1.0), (3, 2.0)):
            manager.save(step, make_state(step), data_state={}, metric=metric)
    return tmp_path / 'run'


@pytest.mark.parametrize(
    ('where', 'step'), [('', 2), ('checkpoints', 2), ('checkpoints/1', 1), ('checkpoints/3', 3)]
)
def test_theta_of_a_run_is_the_best_unless_a_step_is_named(trained_run, caplog, where, step):
    before = sorted(trained_run.rglob('*'))
    with caplog.at_level(logging.INFO, 'metastyle_jax.storage.theta_files'):
        theta = theta_files.load_theta(trained_run / where)
    picked = not where.endswith(str(step))
    assert (f'θ: step {step} of {trained_run} (best of 3)' in caplog.text) == picked
    helpers.assert_identical(theta.params, make_state(step).params)
    assert theta.fingerprint == tensor_files.fingerprint(make_state(step).params)
    assert theta.settings == {'inner': {'steps': 3}}
    assert sorted(trained_run.rglob('*')) == before  # reading leaves a running run alone


def test_theta_of_a_run_without_metrics_is_the_latest(tmp_path):
    save_steps(tmp_path / '2024' / 'checkpoints', 1, 2)
    theta = theta_files.load_theta(tmp_path / '2024')
    helpers.assert_identical(theta.params, make_state(2).params)
    assert theta.settings == {}


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_theta_file_round_trip(tmp_path, dtype):
    params = helpers.make_params()
    theta_files.save_theta(tmp_path / 'a.safetensors', params, settings={'x': [1]}, dtype=dtype)
    theta = theta_files.load_theta(tmp_path / 'a.safetensors')
    expected = jax.tree.map(lambda x: x.astype(dtype).astype(jnp.float32), params)
    helpers.assert_identical(theta.params, expected)
    assert theta.fingerprint == tensor_files.fingerprint(expected)
    assert theta.settings == {'x': [1]}
    assert (theta.fingerprint == tensor_files.fingerprint(params)) == (dtype == 'float32')


def test_theta_is_the_same_from_checkpoint_and_file(trained_run, tmp_path):
    theta = theta_files.load_theta(trained_run)
    theta_files.save_theta(tmp_path / 'a.safetensors', theta.params, settings=theta.settings)
    again = theta_files.load_theta(tmp_path / 'a.safetensors')
    assert (again.fingerprint, again.settings) == (theta.fingerprint, theta.settings)


def test_what_is_no_theta_is_refused_with_a_remedy(tmp_path, trained_run):
    (tmp_path / 'folder' / 'checkpoints').mkdir(parents=True)
    (tmp_path / 'other').mkdir()
    style = style_files.Style(
        params={'x': np.ones(1)},
        adapted='all',
        style_name='x.jpg',
        style_sha256='',
        theta_sha256='',
        settings={},
        losses={},
    )
    style_files.save_style(tmp_path / 'style.safetensors', style)
    safetensors.numpy.save_file({'x': np.ones(1)}, tmp_path / 'plain.safetensors')
    truncate(trained_run / 'checkpoints' / '3')
    for name, message in {
        'none': 'There is no θ at .*none',
        'folder': 'no checkpoint yet in .*folder',
        'folder/checkpoints': 'no checkpoint yet',
        'other': 'other is no training run',
        'run/checkpoints/3': r'3 is damaged .* another step of \[1, 2, 3\]',
        'style.safetensors': 'metastyle_jax.style.*: give it to `metastyle stylize`',
        'plain.safetensors': 'its format is None: check the name',
    }.items():
        with pytest.raises(tensor_files.CheckpointError, match=message):
            theta_files.load_theta(tmp_path / name)


def test_a_checkpoint_without_params_is_no_theta(tmp_path):
    with checkpoints.Manager(tmp_path / 'checkpoints') as manager:
        manager.save(1, {'weights': jnp.ones(2)}, data_state={})
    with pytest.raises(tensor_files.CheckpointError, match='holds no params'):
        theta_files.load_theta(tmp_path)


def test_checkpoints_that_cannot_be_opened_are_named(trained_run, monkeypatch):
    def fail(*_, **__):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr(ocp, 'CheckpointManager', fail)
    with pytest.raises(
        tensor_files.CheckpointError, match=r'run/checkpoints cannot be read .*denied'
    ):
        theta_files.load_theta(trained_run)


def test_theta_must_be_finite(tmp_path):
    for value, dtype in ((np.nan, 'float32'), (1e6, 'float16')):
        with pytest.raises(
            tensor_files.CheckpointError, match='x in .*b.safetensors is not finite'
        ):
            theta_files.save_theta(
                tmp_path / 'b.safetensors', {'x': jnp.array([value])}, settings={}, dtype=dtype
            )
    with pytest.raises(tensor_files.CheckpointError, match="dtype='int8'"):
        theta_files.save_theta(tmp_path / 'b.safetensors', {}, settings={}, dtype='int8')
    save_steps_of_nan = {'params': {'x': jnp.array([np.nan])}}
    with checkpoints.Manager(tmp_path / 'run' / 'checkpoints') as manager:
        manager.save(1, save_steps_of_nan, data_state={})
    with pytest.raises(tensor_files.CheckpointError, match='x in .*1 is not finite'):
        theta_files.load_theta(tmp_path / 'run')


def test_learned_rates_are_kept_with_theta(tmp_path):
    params = {'conv': {'kernel': jnp.ones((2, 2))}, 'norm': {'scale': jnp.ones(2)}}
    rates = {'conv/kernel': np.float32(3e-4), 'norm/scale': np.float32(1e-6)}
    path = tmp_path / 'theta.safetensors'
    theta_files.save_theta(path, params, settings={}, rates=rates, dtype='float16')
    found = theta_files.load_theta(path)
    assert found.rates == rates  # float32, where float16 would round them
    assert found.fingerprint == tensor_files.fingerprint(params)
    with checkpoints.Manager(tmp_path / 'run' / 'checkpoints') as manager:
        state = {'params': params, 'log_rates': {name: jnp.log(r) for name, r in rates.items()}}
        manager.save(1, state, data_state={})
    found = theta_files.load_theta(tmp_path / 'run')
    assert found.rates == pytest.approx(rates)
    assert found.fingerprint == tensor_files.fingerprint(params)


@pytest.mark.parametrize(
    'rates', [{'other': np.float32(1)}, {'x': np.float32(0)}, {'x': np.ones(2, np.float32)}]
)
def test_rates_that_are_none_are_refused(tmp_path, rates):
    path = tmp_path / 'theta.safetensors'
    theta_files.save_theta(path, {'x': jnp.ones(2)}, settings={}, rates=rates)
    with pytest.raises(tensor_files.CheckpointError, match='learned rate of'):
        theta_files.load_theta(path)
