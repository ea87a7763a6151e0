import os

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metastyle_jax.core import errors, files, trees
from metastyle_jax.storage import tensor_files

FORMAT = tensor_files.FileFormat(
    name='metastyle_jax.test',
    version=3,
    noun='test file',
    remedy='give it to somebody else',
    keys=('who',),
    error=tensor_files.CheckpointError,
)


def test_unflatten_undoes_flatten():
    flat = tensor_files.flatten(helpers.make_params())
    assert list(flat) == ['conv/kernel', 'norm/bias', 'norm/scale']
    helpers.assert_identical(
        jax.tree.map(jnp.asarray, tensor_files.unflatten(flat)), helpers.make_params()
    )


@pytest.mark.parametrize('names', [('a', 'a/b'), ('a/b', 'a')])
def test_clashing_names_are_refused(names):
    with pytest.raises(tensor_files.CheckpointError, match='clashes'):
        tensor_files.unflatten(dict.fromkeys(names, 0))


def test_fingerprint_depends_on_names_shapes_and_values_alone():
    params = helpers.make_params()
    flat = tensor_files.flatten(params)
    expected = tensor_files.fingerprint(params)
    assert tensor_files.fingerprint(dict(reversed(flat.items()))) == expected
    assert (
        tensor_files.fingerprint(jax.tree.map(lambda x: np.asarray(x, '>f4'), params)) == expected
    )
    assert tensor_files.fingerprint(flat | {'norm/bias': flat['norm/bias'] + 1}) != expected
    assert (
        tensor_files.fingerprint(flat | {'norm/bias': flat['norm/bias'].reshape(2, 2)}) != expected
    )
    renamed = {name.replace('norm', 'Norm'): array for name, array in flat.items()}
    assert tensor_files.fingerprint(renamed) != expected


def test_sha256_depends_on_the_type_of_the_numbers_but_not_on_their_order():
    flat = {'a': np.arange(3, dtype=np.float32), 'b': np.ones((), np.int32)}
    assert tensor_files.sha256(dict(reversed(flat.items()))) == tensor_files.sha256(flat)
    assert tensor_files.sha256(flat | {'a': flat['a'].astype('>f4')}) == tensor_files.sha256(flat)
    assert tensor_files.sha256(flat | {'b': np.ones((), np.int64)}) != tensor_files.sha256(flat)


def test_fill_gives_the_structure_of_the_template():
    params = helpers.make_params()
    flat = tensor_files.flatten(params)
    template = jax.eval_shape(helpers.make_params)
    found = tensor_files.restore_tree(
        template, flat, source='it', error=tensor_files.CheckpointError
    )
    helpers.assert_identical(found, params)
    for wrong, message in (
        ({'norm/mean': np.ones(4)}, '^it has an unknown tensor norm/mean'),
        ({'norm/bias': np.ones(5)}, r'^norm/bias in it has the shape \(5,\), expected \(4,\)'),
    ):
        with pytest.raises(tensor_files.CheckpointError, match=message):
            tensor_files.restore_tree(
                template, flat | wrong, source='it', error=tensor_files.CheckpointError
            )
    del flat['norm/bias']
    with pytest.raises(tensor_files.CheckpointError, match='^it lacks the tensor norm/bias'):
        tensor_files.restore_tree(template, flat, source='it', error=tensor_files.CheckpointError)


def test_keys_are_told_from_other_leaves():
    key = jax.random.key(0)
    assert trees.is_key(key)
    assert trees.is_key(jax.eval_shape(lambda: key))
    assert not any(map(trees.is_key, (jnp.ones(2), np.ones(2), 1, jax.random.key_data(key))))


def test_written_tensors_are_read_back_with_their_metadata(tmp_path):
    flat = {'b/x': np.arange(6, dtype=np.float16).reshape(2, 3), 'a': np.ones((), np.float32)}
    file = tmp_path / 'a.safetensors'
    tensor_files.write(file, flat, {'who': 'me'}, FORMAT, overwrite=False)
    found, metadata = tensor_files.read(file, FORMAT)
    helpers.assert_identical(found, flat)
    assert metadata['who'] == 'me'
    with pytest.raises(
        tensor_files.CheckpointError, match='format version 3, this program reads 4'
    ):
        tensor_files.read(file, FORMAT._replace(version=4))
    with pytest.raises(
        tensor_files.CheckpointError, match='no other file.*give it to somebody else'
    ):
        tensor_files.read(file, FORMAT._replace(name='metastyle_jax.other', noun='other file'))
    with pytest.raises(tensor_files.CheckpointError, match='lacks the metadata whom'):
        tensor_files.read(file, FORMAT._replace(keys=('who', 'whom')))


def test_whole_numbers_are_refused_as_tensors(tmp_path):
    with pytest.raises(tensor_files.CheckpointError, match='x in .* is not finite'):
        tensor_files.write(
            tmp_path / 'a.safetensors', {'x': np.ones(2, int)}, {}, FORMAT, overwrite=False
        )


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / 'a'
    files.write_whole(file, b'old', tensor_files.CheckpointError)

    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'replace', fail)
    with pytest.raises(
        tensor_files.CheckpointError, match='Cannot write .*No space left.*not full'
    ):
        files.write_whole(file, b'new', tensor_files.CheckpointError)
    assert file.read_bytes() == b'old'
    assert os.listdir(tmp_path) == ['a']


def test_long_errors_are_shortened_to_their_end():
    assert files.first_line(ValueError('one.\ntwo')) == 'one'
    assert files.first_line(KeyError()) == 'KeyError'
    assert files.first_line(ValueError('x' * 300 + 'end')).endswith('xend')
    assert len(files.first_line(ValueError('x' * 300))) < 200


def test_errors_are_the_users():
    assert issubclass(tensor_files.CheckpointError, errors.UserError)
