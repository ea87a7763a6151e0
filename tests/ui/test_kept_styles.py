"""Styles on the disk of the server."""

import numpy as np
import pytest
from stylization_helpers import THETA, make_style

from metastyle_jax.core.errors import UserError
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, style_library, tensor_files, theta_files
from metastyle_jax.ui import kept_styles


@pytest.fixture(scope='module')
def theta(theta_file):
    return theta_files.load_theta(theta_file)


def make_library(path, names, theta_sha256=None, tensors=None):
    is_norm = transformer.adapted('norm')
    flat = tensors or {k: v for k, v in tensor_files.flatten(THETA).items() if is_norm(k)}
    params = {name: np.repeat(np.asarray(leaf)[None], len(names), 0) for name, leaf in flat.items()}
    entries = {name: style_library.LibraryEntry('0' * 64, {'total': [2.0, 1.0]}) for name in names}
    digest = theta_sha256 or tensor_files.fingerprint(THETA)
    style_library.save(path, style_library.Library(params, entries, digest, {}))
    return path


def test_style_files_and_libraries_are_read(tmp_path, theta):
    style_files.save_style(tmp_path / 'a.safetensors', make_style(1))
    assert [*kept_styles.read(tmp_path / 'a.safetensors', theta, 9)] == ['style 1']
    library = make_library(tmp_path / 'b.safetensors', ['x.jpg', 'y.png'])
    assert [*kept_styles.read(library, theta, 2)] == ['x', 'y']
    with pytest.raises(UserError, match='has 2 styles, more than 1'):
        kept_styles.read(library, theta, 1)


def test_styles_that_do_not_fit_are_refused(tmp_path, theta):
    other = make_library(tmp_path / 'other.safetensors', ['x'], theta_sha256='ab' * 32)
    wrong = make_library(tmp_path / 'wrong.safetensors', ['x'], tensors={'a/scale': np.ones(3)})
    style_files.save_style(
        tmp_path / 'style.safetensors', make_style(1)._replace(theta_sha256='cd' * 32)
    )
    (tmp_path / 'text.safetensors').write_text('text')
    for path, message in (
        (other, 'the initialization θ abababababab'),
        (wrong, 'other tensors'),
        (tmp_path / 'style.safetensors', 'the initialization θ cdcdcdcdcdcd'),
        (tmp_path / 'text.safetensors', 'text.safetensors'),
        (tmp_path / 'none.safetensors', 'none.safetensors'),
    ):
        with pytest.raises(UserError, match=message):
            kept_styles.read(path, theta, 9)


def test_kept_styles_get_safe_and_different_names(tmp_path, theta):
    kept = kept_styles.KeptStyles(tmp_path / 'kept')
    assert kept.read_all(theta) == {}
    names = ('../a b', '../a b', '…', '../a b')
    paths = [
        kept.save(name, make_style(seed)) for name, seed in zip(names, (1, 2, 1, 2), strict=True)
    ]
    assert [path.name for path in paths] == [
        'a_b.safetensors', 'a_b_2.safetensors', 'style.safetensors', 'a_b_2.safetensors',
    ]  # fmt: skip
    assert {path.parent for path in paths} == {tmp_path / 'kept'}
    (tmp_path / 'kept' / 'broken.safetensors').write_text('text')
    assert [*kept.read_all(theta)] == ['a_b', 'a_b_2', 'style']
    assert kept.save('broken', make_style(1)).name == 'broken_2.safetensors'


def test_the_default_folder_is_among_the_data_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_DATA_HOME', str(tmp_path))
    assert kept_styles.KeptStyles(None).folder == tmp_path / 'metastyle_jax' / 'styles'


def test_a_user_without_home_is_told_what_to_set(monkeypatch):
    monkeypatch.delenv('XDG_DATA_HOME', raising=False)

    def none():
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.setattr('pathlib.Path.home', none)
    with pytest.raises(UserError, match='set keep_folder=FOLDER'):
        kept_styles.KeptStyles(None)
    assert kept_styles.KeptStyles('kept').folder.name == 'kept'


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match='file'):
        kept_styles.KeptStyles(tmp_path / 'file' / 'kept').save('a', make_style(1))
