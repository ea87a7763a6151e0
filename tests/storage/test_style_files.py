import os

import helpers
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from metastyle_jax.core import errors
from metastyle_jax.storage import style_files, tensor_files, theta_files


def make_style(adapted='all', theta=None, **changes):
    params = tensor_files.flatten(helpers.make_params(1))
    if adapted == 'norm':
        params = {name: array for name, array in params.items() if name.startswith('norm')}
    style = style_files.Style(
        params=params,
        adapted=adapted,
        style_name='Été à 5 h.jpg',
        style_sha256='ab' * 32,
        theta_sha256=theta.fingerprint if theta else 'cd' * 32,
        settings={'steps': 20, 'rate': 1e-3},
        losses={'total': [3.0, 1.5], 'content': [1.0, 0.5]},
    )
    return style._replace(**changes)


@pytest.fixture
def theta():
    params = helpers.make_params()
    return theta_files.Theta(params, tensor_files.fingerprint(params), {})


def test_style_file_round_trip(tmp_path):
    style = make_style()
    style_files.save_style(tmp_path / 'a.safetensors', style)
    loaded = style_files.load_style(tmp_path / 'a.safetensors')
    assert loaded._replace(params=0) == style._replace(params=0)
    helpers.assert_identical(loaded.params, style.params)
    assert os.listdir(tmp_path) == ['a.safetensors']


def test_an_existing_style_is_replaced_only_when_asked(tmp_path):
    file = tmp_path / 'a.safetensors'
    style_files.save_style(file, make_style())
    with pytest.raises(style_files.StyleFileError, match='exists already: pass overwrite=True'):
        style_files.save_style(file, make_style(adapted='norm'))
    assert style_files.load_style(file).adapted == 'all'
    style_files.save_style(file, make_style(adapted='norm'), overwrite=True)
    assert style_files.load_style(file).adapted == 'norm'


def test_a_failed_write_leaves_the_old_style_and_no_other_file(tmp_path, monkeypatch):
    file = tmp_path / 'a.safetensors'
    style_files.save_style(file, make_style())

    def fail(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(style_files.StyleFileError, match='No space left on device'):
        style_files.save_style(file, make_style(adapted='norm'), overwrite=True)
    assert style_files.load_style(file).adapted == 'all'
    assert os.listdir(tmp_path) == ['a.safetensors']


def test_styles_that_cannot_be_written_are_refused(tmp_path):
    with pytest.raises(style_files.StyleFileError, match='must end in .safetensors'):
        style_files.save_style(tmp_path / 'a.npz', make_style())
    with pytest.raises(style_files.StyleFileError, match='Cannot write .*No such file'):
        style_files.save_style(tmp_path / 'no' / 'a.safetensors', make_style())
    with pytest.raises(style_files.StyleFileError, match='x in .* is not finite'):
        style_files.save_style(tmp_path / 'a.safetensors', make_style(params={'x': [np.inf]}))


def rewrite(file, params=None, **changes):
    """Changes tensors or metadata of a file; None removes an entry."""
    with safetensors.safe_open(file, 'np') as opened:
        metadata = opened.metadata() | changes
    metadata = {key: value for key, value in metadata.items() if value is not None}
    safetensors.numpy.save_file(params or safetensors.numpy.load_file(file), file, metadata)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'version': '2'}, 'format version 2, this program reads 1: make it again'),
        ({'format': None}, 'its format is None'),
        ({'theta_sha256': None}, 'lacks the metadata theta_sha256'),
        ({'losses': None, 'sha256': None}, 'lacks the metadata losses, sha256'),
        ({'settings': '{'}, 'broken JSON as settings'),
        ({'settings': '[' * 100_000}, 'broken JSON as settings'),
        ({'losses': '1' * 5000}, 'broken JSON as losses'),
        ({'losses': '[1]'}, r'has \[1\] as losses'),
        ({'params': {'x': np.ones(2, np.float32)}}, 'is damaged'),
    ],
)
def test_a_style_file_with_something_wrong_is_refused(tmp_path, changes, message):
    file = tmp_path / 'a.safetensors'
    style_files.save_style(file, make_style())
    rewrite(file, **changes)
    with pytest.raises(style_files.StyleFileError, match=message):
        style_files.load_style(file)


def test_values_that_are_not_finite_are_refused_even_under_a_right_sum(tmp_path):
    file = tmp_path / 'a.safetensors'
    style_files.save_style(file, make_style())
    params = {'x': np.array([np.nan], np.float32)}
    rewrite(file, params=params, sha256=tensor_files.fingerprint(params))
    with pytest.raises(style_files.StyleFileError, match='x in .* is not finite'):
        style_files.load_style(file)


def test_what_is_no_style_file_is_refused(tmp_path):
    theta_files.save_theta(tmp_path / 'theta.safetensors', helpers.make_params(), settings={})
    style_files.save_style(tmp_path / 'whole.safetensors', make_style())
    data = (tmp_path / 'whole.safetensors').read_bytes()
    for name, content in {'empty': b'', 'cut': data[:-5], 'head': data[:50], 'text': b'hi'}.items():
        (tmp_path / f'{name}.safetensors').write_bytes(content)
    for name, message in {
        'none': 'There is no file',
        'empty': 'is empty',
        'cut': 'no whole .safetensors',
        'head': 'no whole .safetensors',
        'text': 'no whole .safetensors',
        'theta': 'metastyle_jax.theta.*: give it as theta=FILE',
    }.items():
        with pytest.raises(style_files.StyleFileError, match=message):
            style_files.load_style(tmp_path / f'{name}.safetensors')


def test_a_full_style_needs_no_theta(theta):
    style = make_style(theta=theta)
    for params in (style_files.merge_style(style), style_files.merge_style(style, theta)):
        helpers.assert_identical(params, helpers.make_params(1))


def test_a_norm_style_takes_the_rest_from_its_theta(theta):
    params = style_files.merge_style(make_style('norm', theta), theta)
    helpers.assert_identical(params['norm'], helpers.make_params(1)['norm'])
    helpers.assert_identical(params['conv'], helpers.make_params(0)['conv'])


def test_a_norm_style_is_refused_without_its_theta(theta):
    with pytest.raises(
        style_files.StyleFileError, match=f"'Été.*{theta.fingerprint}, as theta=PATH"
    ):
        style_files.merge_style(make_style('norm', theta))


@pytest.mark.parametrize('adapted', ['all', 'norm'])
def test_a_style_is_refused_with_another_theta(theta, adapted):
    with pytest.raises(
        style_files.StyleFileError, match=f'{"cd" * 32}, but theta is {theta.fingerprint}'
    ):
        style_files.merge_style(make_style(adapted), theta)


@pytest.mark.parametrize(
    ('adapted', 'params', 'message'),
    [
        ('all', {'norm/bias': np.ones(4, np.float32)}, 'lacks the tensor'),
        ('norm', {'mystery': np.ones(4, np.float32)}, 'unknown tensor mystery'),
        ('norm', {'norm/bias': np.ones(5, np.float32)}, r'norm/bias .*\(5,\), expected \(4,\)'),
    ],
)
def test_a_style_of_another_network_is_refused(theta, adapted, params, message):
    with pytest.raises(style_files.StyleFileError, match=message):
        style_files.merge_style(make_style(adapted, theta, params=params), theta)


SAVE_OR_CHECK = [
    lambda path, **options: style_files.save_style(path, make_style(), **options),
    style_files.check_output,
]


@pytest.mark.parametrize('output', SAVE_OR_CHECK, ids=['save_style', 'check_output'])
def test_an_output_that_cannot_be_written_is_refused_and_nothing_made(
    tmp_path, monkeypatch, output
):
    (tmp_path / 'old.safetensors').write_text('precious')
    (tmp_path / 'folder.safetensors').mkdir()
    for name, overwrite, message in (
        ('a.npz', True, 'must end in .safetensors'),
        ('old.safetensors', False, 'exists already: pass overwrite=True'),
        ('folder.safetensors', True, 'Cannot write .*Is a directory'),
        ('no/a.safetensors', False, 'Cannot write .*No such file .*its folder exists'),
        ('old.safetensors/a.safetensors', True, 'Cannot write .*Not a directory'),
    ):
        with pytest.raises(style_files.StyleFileError, match=message):
            output(tmp_path / name, overwrite=overwrite)
    monkeypatch.setattr(os, 'access', lambda *_: False)  # the mode bits would not stop root
    with pytest.raises(style_files.StyleFileError, match='Cannot write .*Permission denied'):
        output(tmp_path / 'a.safetensors')
    assert sorted(os.listdir(tmp_path)) == ['folder.safetensors', 'old.safetensors']
    assert (tmp_path / 'old.safetensors').read_text() == 'precious'


def test_an_output_that_can_be_written_is_only_looked_at(tmp_path):
    file = tmp_path / 'a.safetensors'
    style_files.check_output(file)
    assert not os.listdir(tmp_path)
    file.write_text('old')
    style_files.check_output(str(file), overwrite=True)
    assert file.read_text() == 'old'


def test_errors_are_the_users():
    assert issubclass(style_files.StyleFileError, errors.UserError)


def change_tensors(file, change):
    """Changes the tensors of a style file, whose checksum stays right."""
    with safetensors.safe_open(file, 'np') as opened:
        metadata = opened.metadata()
        flat = {name: change(opened.get_tensor(name)) for name in opened.keys()}  # noqa: SIM118
    metadata['sha256'] = tensor_files.sha256(flat)
    file.write_bytes(safetensors.numpy.save(flat, metadata))


@pytest.mark.parametrize('kind', [np.float16, np.float64])
def test_styles_of_other_floats_are_read_as_float32(tmp_path, kind):
    style, file = make_style(), tmp_path / 'a.safetensors'
    style_files.save_style(file, style)
    change_tensors(file, lambda array: array.astype(kind))
    for name, array in style_files.load_style(file).params.items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, style.params[name], rtol=1e-3)


def test_numbers_that_float32_cannot_hold_are_refused(tmp_path):
    style, file = make_style(), tmp_path / 'a.safetensors'
    large = {name: np.full(array.shape, 1e300) for name, array in style.params.items()}
    with pytest.raises(style_files.StyleFileError, match='is not finite'):
        style_files.save_style(file, style._replace(params=large))
    assert not file.exists()
    style_files.save_style(file, style)
    change_tensors(file, lambda array: np.full(array.shape, 1e300))
    with pytest.raises(style_files.StyleFileError, match='is not finite'):
        style_files.load_style(file)
