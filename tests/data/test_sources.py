"""Words for sources, and sources with some images left out."""

import pickle

import adaptation_helpers
import helpers
import numpy as np
import pytest

from metastyle_jax.core import errors
from metastyle_jax.data import batching, image_source, sources


@pytest.mark.parametrize(
    'word', ['', 'photos', 'sample', 'sample:x', 'folder:', 'tfds:', 'http://x']
)
def test_other_words_list_the_three_forms(word):
    with pytest.raises(
        image_source.DataError, match=r"'sample:', 'folder:PATH' or 'tfds:NAME"
    ) as caught:
        sources.open_source(word, kind='content')
    assert repr(word) in str(caught.value)
    assert isinstance(caught.value, errors.UserError)


def test_a_word_that_is_a_folder_is_told_apart_from_one_that_is_nothing(tmp_path):
    with pytest.raises(image_source.DataError, match=f'Is folder:{tmp_path} meant'):
        sources.open_source(str(tmp_path), kind='content')
    with pytest.raises(image_source.DataError, match='is no data source. Give [^.]*.$'):
        sources.open_source('a' * 5000, kind='content')  # too long for a file's name


class TestWithout:
    @pytest.fixture
    def source(self, tmp_path):
        for name in ('Sea.png', 'deep/sea.png', 'deep/wood.png', 'Zoo.png'):
            helpers.write_image(tmp_path / name)
        return sources.open_source(f'folder:{tmp_path}', kind='content')

    def test_leaves_out_names_in_capitals_or_not(self, source):
        kept = sources.without(source, ('SEA', 'zo'))
        assert [kept.name(i) for i in range(len(kept))] == ['deep/wood.png']
        assert kept[0] == source[3]
        assert kept.word == source.word
        np.testing.assert_array_equal(kept.decode(0, 16), helpers.ramp())

    def test_keeps_the_order_and_survives_pickling(self, source):
        kept = pickle.loads(pickle.dumps(sources.without(source, ['wood'])))
        assert [kept.name(i) for i in range(3)] == ['Sea.png', 'Zoo.png', 'deep/sea.png']

    def test_without_words_nothing_is_left_out(self, source):
        kept = sources.without(source, ())
        assert kept is source

    def test_a_word_in_no_name_is_an_error(self, source):
        with pytest.raises(image_source.DataError, match="folder:.*'see' in its name"):
            sources.without(source, ('sea', 'see'))

    def test_leaving_out_everything_is_an_error(self, source):
        with pytest.raises(image_source.DataError, match="no image remains .*'PNG'"):
            sources.without(source, ('sea', 'PNG'))

    def test_a_word_may_match_what_another_left_out(self, source):
        assert len(sources.without(source, ('sea', 'deep'))) == 1

    def test_batches_take_the_rest_in_worker_processes(self, source):
        kept = sources.without(source, ('sea',))
        with batching.content_batches(kept, batch=4, size=16, seed=0, workers=1) as batches:
            assert next(batches).shape == (4, 16, 16, 3)


def test_each_image_of_a_source_is_either_held_out_or_not(tmp_path):
    photos = adaptation_helpers.open_pictures(tmp_path / 'photos', 40, 0)
    inside, outside = (sources.held_out(photos, inside=flag) for flag in (True, False))
    names = [{part.name(i) for i in range(len(part))} for part in (inside, outside)]
    assert len(names[0]) + len(names[1]) == 40
    assert not names[0] & names[1]
    assert all(map(sources.is_held_out, names[0]))
    assert sources.is_held_out('deep/in/folders/' + min(names[0]))
