"""The state comes back from a checkpoint as it was, and another state is refused."""

import json

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_helpers import make_state, save_steps

from metastyle_jax.storage import checkpoints, tensor_files


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


def test_a_state_is_restored_from_shapes_alone(tmp_path):
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


def test_checkpoints_of_older_versions_are_read(tmp_path):
    save_steps(tmp_path, 1, metric=1.5)
    file = tmp_path / '1' / 'meta' / 'metadata'
    meta = json.loads(file.read_text())
    file.write_text(json.dumps({name: meta[name] for name in ('sha256', 'keys', 'data_state')}))
    with checkpoints.Manager(tmp_path) as manager:
        assert manager.restore(make_state()).data_state == {'at': 1}


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
