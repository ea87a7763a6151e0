"""Images of a data set that TensorFlow Datasets has prepared."""

import io
import json
import os
import pickle
import shutil
import sys

import helpers
import numpy as np
import pytest
from PIL import Image

from metastyle_jax.data import batching, image_source, sources
from metastyle_jax.data.images import image_files


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


def test_a_prepared_coco_is_read_without_tensorflow(data_dir):
    train = sources.open_source('tfds:coco/2017:train', kind='content', data_dir=data_dir)
    val = sources.open_source('tfds:coco/2017:validation', kind='content', data_dir=data_dir)
    assert (len(train), len(val)) == (12, 5)
    names = {train.name(i).split()[1] for i in range(12)}
    assert names == {f'{i:012d}.jpg' for i in range(12)}
    assert isinstance(train[0], bytes)
    assert np.abs(val.decode(0).astype(int) - helpers.ramp()).mean() < 3
    assert 'tensorflow' not in sys.modules


def test_the_folder_is_found_in_the_environment(data_dir, monkeypatch):
    monkeypatch.setenv('TFDS_DATA_DIR', str(data_dir))
    assert len(sources.open_source('tfds:coco/2017', kind='content')) == 12
    assert len(sources.open_source('tfds:coco/2017/1.1.0:train[:25%]', kind='content')) == 3


def test_the_highest_version_is_taken(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / 'data')
    newer = tmp_path / 'data' / 'coco' / '2017' / '1.10.0'
    shutil.copytree(newer.with_name('1.1.0'), newer)
    info = json.loads((newer / 'dataset_info.json').read_text()) | {'version': '1.10.0'}
    (newer / 'dataset_info.json').write_text(json.dumps(info))
    source = sources.open_source('tfds:coco/2017', kind='content', data_dir=tmp_path / 'data')
    assert pickle.loads(pickle.dumps(source))[0] == source[0]
    assert source._folder == str(newer)


def test_worker_processes_read_the_same_batches(data_dir):
    source = sources.open_source('tfds:coco/2017', kind='content', data_dir=data_dir)
    settings = {'batch': 8, 'size': 16, 'seed': 0}
    with (
        batching.content_batches(source, **settings) as here,
        batching.content_batches(source, workers=1, **settings) as there,
    ):
        for _ in range(2):
            np.testing.assert_array_equal(next(here), next(there))


def test_names_of_records_are_not_read_to_leave_some_out(data_dir):
    source = sources.open_source('tfds:coco/2017', kind='content', data_dir=data_dir)
    with pytest.raises(image_source.DataError, match=r"tfds:coco/2017: only .*\['0007.JPG'\]"):
        sources.without(source, ['0007.JPG'])
    assert sources.without(source, ()) is source


@pytest.mark.parametrize('name', ['dataset_info.json', 'features.json'])
def test_damaged_descriptions_are_named(data_dir, tmp_path, name):
    shutil.copytree(data_dir, tmp_path / 'data')
    file = tmp_path / 'data' / 'coco' / '2017' / '1.1.0' / name
    for content in (file.read_text()[:100], '{"no": "description"}'):
        file.write_text(content)
        with pytest.raises(image_source.DataError, match=r'1\.1\.0.* cannot be (read|opened)'):
            sources.open_source('tfds:coco/2017', kind='content', data_dir=tmp_path / 'data')


def test_records_of_a_damaged_file_are_damaged_images(data_dir, tmp_path):
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
def test_a_word_of_no_prepared_data_is_explained(data_dir, word, message):
    with pytest.raises(image_source.DataError, match=message):
        sources.open_source(word, kind='content', data_dir=data_dir)


def test_other_file_formats_are_refused(data_dir, tmp_path):
    folder = edit_info(
        data_dir,
        tmp_path / 'data',
        'dataset_info.json',
        lambda info: info | {'fileFormat': 'tfrecord'},
    )
    with pytest.raises(image_source.DataError, match='tfrecord.*--file_format=array_record'):
        sources.open_source('tfds:coco/2017', kind='content', data_dir=folder)


def test_a_data_set_without_images_lists_its_features(data_dir, tmp_path):
    def rename(features):
        parts = features['featuresDict']['features']
        parts['picture'] = parts.pop('image')
        return features

    folder = edit_info(data_dir, tmp_path / 'data', 'features.json', rename)
    with pytest.raises(image_source.DataError, match="no feature 'image' but .*picture"):
        sources.open_source('tfds:coco/2017', kind='content', data_dir=folder)


def test_a_missing_file_is_named(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path / 'data')
    shard = next((tmp_path / 'data').glob('coco/2017/1.1.0/coco-train*'))
    shard.unlink()
    with pytest.raises(image_source.DataError, match=shard.name):
        sources.open_source('tfds:coco/2017', kind='content', data_dir=tmp_path / 'data')
