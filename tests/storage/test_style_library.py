"""Library files: what they hold, and how a style of theirs is named."""

import json

import helpers
import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from library_helpers import make_library

from metastyle_jax.core.errors import UserError
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, style_library, tensor_files


def test_a_merge_replaces_styles_of_the_same_name_and_adds_the_others():
    one, two = make_library(['a', 'b', 'c']), make_library(['b', 'd'], seed=1)
    found = style_library.merge(one, two)
    assert found.names == ['a', 'b', 'c', 'd']
    for name, source in zip(found.names, (one, two, one, two), strict=True):
        picked, expected = style_library.pick(found, name), style_library.pick(source, name)
        helpers.assert_identical(picked.params, expected.params)


def test_a_library_is_loaded_as_it_was_saved_and_a_thousand_styles_take_13_mb(tmp_path):
    params = transformer.init(jax.random.key(0))
    flat = {n: x for n, x in tensor_files.flatten(params).items() if transformer.adapted('norm')(n)}
    names = [f'museum/painting {i}.jpg' for i in range(1000)]
    made = style_library.Library(
        {name: np.repeat(leaf[None], 1000, axis=0) for name, leaf in flat.items()},
        {name: style_library.LibraryEntry('ab' * 32, {'total': [20.25, 10.5]}) for name in names},
        'cd' * 32,
        {'steps': 50},
    )
    path = tmp_path / 'library.safetensors'
    style_library.save(path, made)
    assert 12.8e6 < path.stat().st_size < 13.6e6
    found = style_library.load(path)
    assert found._replace(params={}) == made._replace(params={})
    helpers.assert_identical(dict(sorted(found.params.items())), dict(sorted(made.params.items())))
    with pytest.raises(UserError, match='overwrite=True'):
        style_library.save(path, made)


def test_a_damaged_library_is_refused(tmp_path):
    path = tmp_path / 'library.safetensors'
    style_library.save(path, make_library(['a', 'b']))
    with safetensors.safe_open(path, 'np') as opened:
        metadata = opened.metadata()
    flat, _ = tensor_files.read(path, style_library._FORMAT)
    for change, message in (
        ({'styles': json.dumps({'a': {'sha256': '', 'losses': {}}})}, 'one row for each of 1'),
        ({'styles': json.dumps({'a': {}, 'b': {}})}, 'broken records'),
        ({'sha256': '0'}, 'is damaged'),
        ({'version': '2'}, 'format version 2'),
    ):
        (tmp_path / 'x.safetensors').write_bytes(
            safetensors.numpy.save(flat, {**metadata, **change})
        )
        with pytest.raises(style_files.StyleFileError, match=message):
            style_library.load(tmp_path / 'x.safetensors')


def test_a_style_is_found_by_its_file_name_if_no_other_has_it():
    found = make_library(
        ['monet/lilies.jpg', 'hokusai/Wave.png', 'hokusai/Mt. Fuji', 'x/lilies.jpg']
    )
    for word, name in {
        'monet/lilies.jpg': 'monet/lilies.jpg',
        'monet/lilies': 'monet/lilies.jpg',
        'wave': 'hokusai/Wave.png',
        'Wave.png': 'hokusai/Wave.png',
        'mt. fuji': 'hokusai/Mt. Fuji',
    }.items():
        assert style_library.resolve(found, word) == name
    for word, message in {
        'lilies': "fits 2 styles: write one of 'monet/lilies.jpg', 'x/lilies.jpg'",
        'wvae': "among the 4 of the library: the closest are 'hokusai/Wave.png'",
        'fuji': "the closest are 'hokusai/Mt. Fuji'",
        'qqqqqq': "it has 'monet/lilies.jpg', 'hokusai/Wave.png'",
    }.items():
        with pytest.raises(style_files.StyleFileError, match=message):
            style_library.resolve(found, word)


@pytest.mark.parametrize(
    ('word', 'path', 'name'),
    [
        ('a.safetensors', 'a.safetensors', ''),
        ('a.safetensors:b', 'a.safetensors', 'b'),
        ('a.safetensors:b: c.jpg', 'a.safetensors', 'b: c.jpg'),
        ('C:\\a\\b.safetensors', 'C:\\a\\b.safetensors', ''),
        ('C:\\a\\b.safetensors:c', 'C:\\a\\b.safetensors', 'c'),
        ('C:\\a\\b.jpg', 'C:\\a\\b.jpg', ''),
    ],
)
def test_the_name_of_a_style_follows_the_suffix_of_its_library_and_drive_letters_are_no_names(
    word, path, name
):
    found = style_library.split(word)
    assert (str(found[0]), found[1]) == (path, name)
