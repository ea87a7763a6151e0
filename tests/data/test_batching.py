"""Batches that depend on the seed and the step alone."""

import contextlib
import errno
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys

import helpers
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from PIL import Image

from metastyle_jax.data import batching, image_source, image_stream, sources
from metastyle_jax.data.images import image_files

SETTINGS = {
    'styles_per_step': 2,
    'inner_steps': 2,
    'contents_per_style': 3,
    'size': 16,
    'style_size': 20,
    'val_fraction': 0.25,
    'seed': 3,
}


def damage(path):
    """Keeps the header and loses the pixels."""
    path.write_bytes(path.read_bytes()[:60])


@pytest.fixture
def contents(tmp_path):
    return sources.open_source(
        f'folder:{helpers.write_images(tmp_path / "contents", 12)}', kind='content'
    )


@pytest.fixture
def styles(tmp_path):
    return sources.open_source(
        f'folder:{helpers.write_images(tmp_path / "styles", 5)}', kind='style'
    )


@pytest.fixture
def warned(monkeypatch):
    """The warnings that were logged."""
    lines = []
    monkeypatch.setattr(logging, 'warning', lambda text, *args: lines.append(text % args))
    return lines


def take(batches, count):
    with batches:
        return list(itertools.islice(batches, count))


def assert_same(ours, theirs):
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        for x, y in zip(one, other, strict=True):
            np.testing.assert_array_equal(x, y)


# --------------------------------------------------------------------------------------- split


@pytest.mark.parametrize(('count', 'fraction'), [(2, 0.01), (2, 0.99), (10, 0.25), (1000, 0.1)])
def test_split_is_a_partition_without_empty_parts(count, fraction):
    train, val = batching.split(count, val_fraction=fraction, seed=0)
    assert sorted([*train, *val]) == list(range(count))
    assert len(val) == min(max(round(count * fraction), 1), count - 1)


def test_split_depends_on_the_seed_alone():
    one, same, other = (batching.split(50, val_fraction=0.5, seed=seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize('count', [0, 1])
def test_split_of_fewer_than_two_is_an_error(count):
    with pytest.raises(image_source.DataError, match=f'{count} content'):
        batching.split(count, val_fraction=0.5, seed=0)


# ------------------------------------------------------------------------------------- batches


def test_shapes_and_types(contents, styles):
    (batch,) = take(batching.meta_batches(contents, styles, **SETTINGS), 1)
    assert [x.shape for x in batch] == [
        (2, 2, 3, 16, 16, 3),
        (2, 3, 16, 16, 3),
        (2, 20, 20, 3),
        (2, 2, 3),
        (2, 3),
        (2,),
    ]
    assert [x.dtype for x in batch] == [np.uint8] * 3 + [np.int32] * 3
    assert all(type(x) is np.ndarray for x in batch)


def test_inner_and_outer_contents_are_disjoint_and_cover_their_parts(contents, styles):
    batches = take(batching.meta_batches(contents, styles, **SETTINGS), 6)
    train, val = batching.split(12, val_fraction=0.25, seed=3)
    assert set(np.concatenate([b.inner_index.ravel() for b in batches])) == set(train)
    assert set(np.concatenate([b.outer_index.ravel() for b in batches])) == set(val)


def test_indices_name_the_images_of_the_batch(tmp_path, styles):
    folder = tmp_path / 'colours'
    folder.mkdir()
    for i in range(8):
        Image.new('RGB', (20, 20), (i * 20, 0, 0)).save(folder / f'{i}.png')
    source = sources.open_source(f'folder:{folder}', kind='content')
    (batch,) = take(batching.meta_batches(source, styles, **SETTINGS), 1)
    np.testing.assert_array_equal(batch.inner[..., 0, 0, 0], batch.inner_index * 20)
    np.testing.assert_array_equal(batch.outer[..., 0, 0, 0], batch.outer_index * 20)


def test_every_epoch_has_every_image_once_in_an_order_of_its_own(contents, styles):
    settings = SETTINGS | {'inner_steps': 1, 'contents_per_style': 1, 'styles_per_step': 1}
    order = [
        int(b.inner_index.item())
        for b in take(batching.meta_batches(contents, styles, **settings), 27)
    ]
    epochs = [order[:9], order[9:18], order[18:]]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_a_batch_may_be_larger_than_an_epoch(contents, tmp_path):
    one = sources.open_source(f'folder:{helpers.write_images(tmp_path / "one", 1)}', kind='style')
    settings = SETTINGS | {'styles_per_step': 4, 'inner_steps': 5}
    (batch,) = take(batching.meta_batches(contents, one, **settings), 1)
    assert batch.inner.shape[:3] == (4, 5, 3)
    np.testing.assert_array_equal(batch.style_index, 0)


def test_without_inner_steps_the_contents_are_those_of_training(contents, styles):
    settings = SETTINGS | {'inner_steps': 0}
    seen = set()
    for batch in take(batching.meta_batches(contents, styles, **settings), 6):
        assert batch.inner.shape[:3] == (SETTINGS['styles_per_step'], 0, 3)
        assert batch.inner_index.shape == batch.inner.shape[:3]
        seen |= set(np.ravel(batch.outer_index).tolist())
    train, _ = batching.split(
        len(contents), val_fraction=SETTINGS['val_fraction'], seed=SETTINGS['seed']
    )
    assert seen == set(train.tolist())


def test_the_sequence_depends_on_the_seed(contents, styles):
    one, same, other = (
        take(batching.meta_batches(contents, styles, **SETTINGS | {'seed': seed}), 3)
        for seed in (0, 0, 1)
    )
    assert_same(one, same)
    assert not np.array_equal(one[0].inner, other[0].inner)


def test_crops_and_flips_vary(contents, styles):
    batches = take(batching.meta_batches(contents, styles, **SETTINGS), 8)
    inner = np.concatenate([b.inner.reshape(-1, 16, 16, 3) for b in batches]).astype(int)
    flipped = inner[:, 8, 0, 0] > inner[:, 8, -1, 0]
    assert 0.3 < flipped.mean() < 0.7
    assert len({tuple(x[8, [0, -1], 0]) for x in inner}) > 10, 'left and right'
    assert len({x[0, 8, 1] for x in inner}) > 2, 'up and down'
    # A crop of 8/9 of the height keeps about 8/9 of the range of green.
    assert abs(np.ptp(inner[..., 1], axis=(1, 2)).mean() / 255 - 8 / 9) < 0.05


def test_styles_are_cropped_or_squashed(contents, styles):
    cropped = take(batching.meta_batches(contents, styles, **SETTINGS), 4)
    squashed = take(batching.meta_batches(contents, styles, style_fit='squash', **SETTINGS), 4)
    wide = [np.ptp(x[..., 0].astype(int)) for b in squashed for x in b.style]
    narrow = [np.ptp(x[..., 0].astype(int)) for b in cropped for x in b.style]
    assert min(wide) > 240 > 170 > max(narrow)
    assert len({int(x[0, 0, 0]) for b in cropped for x in b.style}) > 2
    assert all(np.ptp(x[..., 1].astype(int)) > 240 for b in cropped for x in b.style)


def test_the_number_of_workers_changes_nothing(contents, styles):
    expected = take(batching.meta_batches(contents, styles, **SETTINGS), 7)
    for workers in (1, 2):
        found = take(batching.meta_batches(contents, styles, workers=workers, **SETTINGS), 7)
        assert_same(found, expected)
        assert all(type(x) is np.ndarray for x in found[0])


@pytest.mark.parametrize('workers', [0, 2])
def test_state_resumes_exactly(contents, styles, workers):
    with batching.meta_batches(contents, styles, workers=workers, **SETTINGS) as batches:
        list(itertools.islice(batches, 3))
        state = json.loads(json.dumps(batches.get_state()))
        expected = list(itertools.islice(batches, 3))
        batches.set_state(state)
        assert_same(list(itertools.islice(batches, 3)), expected)
    restored = batching.meta_batches(contents, styles, workers=0, **SETTINGS)
    restored.set_state(state)
    assert restored.get_state() == state
    assert_same(take(restored, 3), expected)


def test_a_closed_iterator_goes_on_where_it_stopped(contents, styles):
    expected = take(batching.meta_batches(contents, styles, **SETTINGS), 2)
    batches = batching.meta_batches(contents, styles, **SETTINGS)
    assert_same(take(batches, 1) + take(batches, 1), expected)


def test_changed_data_is_noticed_on_resuming(contents, styles, warned):
    state = batching.meta_batches(contents, styles, **SETTINGS).get_state()
    batching.meta_batches(contents, styles, **SETTINGS).set_state(state)
    assert not warned
    batching.meta_batches(contents, contents, **SETTINGS).set_state(state)
    assert 'styles was 5, is 12' in warned[0]


@pytest.mark.parametrize('state', [None, {}, {'step': -1}, {'step': 'x'}])
def test_wrong_states_are_errors(contents, styles, state):
    with pytest.raises(image_source.DataError):
        batching.meta_batches(contents, styles, **SETTINGS).set_state(state)


def test_content_batches_use_the_whole_source(contents):
    batches = take(batching.content_batches(contents, batch=5, size=16, seed=0), 3)
    assert [(x.shape, x.dtype) for x in batches] == [((5, 16, 16, 3), np.uint8)] * 3
    with batching.content_batches(contents, batch=5, size=16, seed=0, workers=1) as there:
        for expected in batches:
            np.testing.assert_array_equal(next(there), expected)


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('styles_per_step', 0),
        ('inner_steps', 1.5),
        ('inner_steps', -1),
        ('contents_per_style', True),
        ('size', 15),
        ('style_size', -1),
        ('style_fit', 'stretch'),
        ('val_fraction', 1.0),
        ('val_fraction', 0),
        ('val_fraction', float('nan')),
        ('seed', -1),
        ('seed', 2**32),
        ('workers', -1),
    ],
)
def test_settings_out_of_range_are_errors(contents, styles, name, value):
    with pytest.raises(image_source.DataError, match=f'{name}={value!r}'):
        batching.meta_batches(contents, styles, **SETTINGS | {name: value})


@pytest.mark.parametrize(
    ('name', 'value'), [('batch', 0), ('size', 8), ('seed', 'x'), ('workers', 2.0)]
)
def test_settings_of_content_batches_out_of_range_are_errors(contents, name, value):
    with pytest.raises(image_source.DataError, match=f'{name}={value!r}'):
        batching.content_batches(contents, **{'batch': 1, 'size': 16, 'seed': 0} | {name: value})


def test_as_float_takes_numpy_and_jax():
    for xp in (np, jnp):
        x = batching.as_float(xp.array([0, 51, 255], xp.uint8))
        assert isinstance(x, xp.ndarray)
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, [0, 0.2, 1])


# ------------------------------------------------------------------------------ damaged images


def damaged_source(tmp_path, count, damaged):
    folder = helpers.write_images(tmp_path / 'damaged', count)
    source = sources.open_source(f'folder:{folder}', kind='content')
    for i in damaged:
        damage(folder / f'{i:02d}.png')
    return source


def test_damaged_pixels_give_way_to_the_next_image_and_are_logged_once(tmp_path, warned):
    source = damaged_source(tmp_path, 30, [7])
    with pytest.raises(image_files.ImageError):
        source.decode(7)
    plain = [
        image_stream.PartReader(source, np.arange(30), image_stream.DamageTally(), 16)[i][1]
        for i in (6, 7, 8)
    ]
    assert plain == [6, 8, 8]
    warned.clear()
    take(batching.content_batches(source, batch=60, size=16, seed=0), 2)
    assert len(warned) == 1
    assert '07.png' in warned[0]


def test_a_vanished_file_gives_way_too(tmp_path, warned):
    source = damaged_source(tmp_path, 12, [])
    os.remove(source[11])
    reader = image_stream.PartReader(source, np.arange(12), image_stream.DamageTally(), 16)
    assert reader[11][1] == 0
    assert '11.png' in warned[0]


@pytest.mark.parametrize(
    'error',
    [MemoryError(), OSError(errno.EMFILE, 'Too many open files'), OSError(errno.ESTALE, '')],
)
def test_what_the_machine_lacks_is_no_damage(tmp_path, monkeypatch, warned, error):
    reader = image_stream.PartReader(
        damaged_source(tmp_path, 12, []), np.arange(12), image_stream.DamageTally(), 16
    )

    def fail(*args, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(image_files.Image, 'open', fail)
        with pytest.raises(image_source.DataError, match='may be intact'):
            _ = reader[3]
    assert reader[3][1] == 3
    assert not warned


def test_the_replacement_stays_in_its_part_of_the_split(tmp_path, styles, warned):
    train, val = batching.split(40, val_fraction=0.25, seed=3)
    last = [int(i) for i in val if i + 1 in train][0]
    source = damaged_source(tmp_path, 40, [last])
    batches = take(batching.meta_batches(source, styles, **SETTINGS), 6)
    outer = set(np.concatenate([b.outer_index.ravel() for b in batches]))
    assert warned
    assert outer <= set(val) - {last}


def test_damage_changes_nothing_for_workers(tmp_path, styles):
    source = damaged_source(tmp_path, 40, [5, 21])
    expected = take(batching.meta_batches(source, styles, **SETTINGS), 4)
    assert_same(take(batching.meta_batches(source, styles, workers=2, **SETTINGS), 4), expected)


@pytest.mark.parametrize('workers', [0, 1])
def test_more_than_a_tenth_of_damaged_pixels_is_an_error(tmp_path, workers):
    source = damaged_source(tmp_path, 20, range(0, 20, 4))
    batches = batching.content_batches(source, batch=20, size=16, seed=0, workers=workers)
    with pytest.raises(
        image_source.DataError, match=r'images tried are damaged: .*\.png.*Repair'
    ) as caught:
        next(batches)
    assert not getattr(caught.value, '__notes__', ())
    assert caught.value.__cause__ is None


def test_a_few_damaged_images_among_the_first_are_no_error(tmp_path, warned):
    source = damaged_source(tmp_path, 40, range(4))
    reader = image_stream.PartReader(source, np.arange(40), image_stream.DamageTally(), 16)
    assert reader[0][1] == 4
    assert len(warned) == 4


def test_a_part_without_any_good_image_is_an_error(tmp_path, styles, warned):
    train, val = batching.split(20, val_fraction=0.01, seed=3)
    source = damaged_source(tmp_path, 20, val)
    with pytest.raises(image_source.DataError, match='all of the 1 images'):
        next(batching.meta_batches(source, styles, **SETTINGS | {'val_fraction': 0.01}))


# ----------------------------------------------------------------------------------- processes

SCRIPT = """
import hashlib, json, signal, sys
from metastyle_jax.data import batching, image_source, image_stream, sources

if __name__ == '__main__':
    # Python loses an interrupt that comes in a callback, of the collector for one.
    interrupts = []
    signal.signal(signal.SIGINT, lambda *_: interrupts.append(True))
    contents, styles, settings, state, forever = json.loads(sys.argv[1])
    batches = batching.meta_batches(
        sources.open_source(contents, kind='content'),
        sources.open_source(styles, kind='style'),
        workers=2,
        **settings,
    )
    batches.set_state(state)
    print(hashlib.sha256(b''.join(x.tobytes() for x in next(batches))).hexdigest(), flush=True)
    while forever:
        next(batches)
        if interrupts:
            raise KeyboardInterrupt
"""


def start_script(tmp_path, contents, styles, state, *, forever, code=SCRIPT):
    """Runs a plain script, which parses no absl flags, in a session of its own."""
    path = tmp_path / 'script.py'
    path.write_text(code)
    root = helpers.ROOT
    return subprocess.Popen(
        [sys.executable, path, json.dumps([contents.word, styles.word, SETTINGS, state, forever])],
        env=os.environ | {'PYTHONPATH': str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_fresh_process_resumes_from_the_state(tmp_path, contents, styles):
    batches = batching.meta_batches(contents, styles, **SETTINGS)
    take(batches, 2)
    script = start_script(tmp_path, contents, styles, batches.get_state(), forever=False)
    output, errors = script.communicate(timeout=60)
    (batch,) = take(batches, 1)
    assert output.strip() == hashlib.sha256(b''.join(x.tobytes() for x in batch)).hexdigest()
    assert script.returncode == 0
    assert errors == ''


@pytest.mark.skipif(sys.platform == 'win32', reason='signals to process groups')
def test_workers_end_with_a_killed_parent_and_keep_quiet_on_interrupt(tmp_path, contents, styles):
    state = batching.meta_batches(contents, styles, **SETTINGS).get_state()
    scripts = [start_script(tmp_path, contents, styles, state, forever=True) for _ in range(2)]
    for script in scripts:
        assert script.stdout.readline()
    scripts[0].kill()
    os.killpg(scripts[1].pid, signal.SIGINT)
    # The pipes reach their end only when every process that holds them, the workers too, is gone.
    scripts[0].communicate(timeout=60)
    _, errors = scripts[1].communicate(timeout=60)
    assert errors.count('Traceback') == 1
    assert 'KeyboardInterrupt' in errors
    assert 'spawn_main' not in errors


STOPPED = """
import json, signal, sys
from metastyle_jax.data import batching, image_source, image_stream, sources

if __name__ == '__main__':
    contents, styles, settings, _, end = json.loads(sys.argv[1])
    told = []
    signal.signal(signal.SIGTERM, lambda *_: told.append(1))
    opened = [sources.open_source(word, kind='content') for word in (contents, styles)]
    batches = batching.meta_batches(*opened, workers=2, **settings)
    next(batches)
    print('begun', flush=True)
    while not told:
        next(batches)
    for _ in range(50):  # more than the workers had read ahead
        next(batches)
    if end == 'close':
        batches.close()
    elif end == 'drop':
        del batches
"""


@pytest.mark.skipif(sys.platform == 'win32', reason='signals to process groups')
@pytest.mark.parametrize('end', ['close', 'drop', 'exit'])
def test_workers_leave_sigterm_to_their_parent_and_end_with_it(tmp_path, contents, styles, end):
    script = start_script(tmp_path, contents, styles, None, forever=end, code=STOPPED)
    assert script.stdout.readline() == 'begun\n'
    os.killpg(script.pid, signal.SIGTERM)
    # Grain kills workers that have not ended after 25 s; a worker that nobody ends stays for ever.
    _, errors = script.communicate(timeout=20)
    assert errors == ''
    assert script.returncode == 0


def test_a_script_without_guard_is_told_so(tmp_path, contents, styles):
    code = SCRIPT.replace("if __name__ == '__main__':", 'if True:')
    state = batching.meta_batches(contents, styles, **SETTINGS).get_state()
    script = start_script(tmp_path, contents, styles, state, forever=False, code=code)
    _, errors = script.communicate(timeout=60)
    assert script.returncode == 1
    assert 'DataError: One of the 2 data workers ended unexpectedly' in errors


@pytest.mark.parametrize('processes', [2, 4])
def test_shares_of_processes_make_up_the_batch_of_one(tmp_path, processes):
    helpers.write_images(tmp_path, 12)
    source = sources.open_source(f'folder:{tmp_path}', kind='content')

    def batches(share):
        return batching.meta_batches(
            source, source, styles_per_step=4, inner_steps=2, contents_per_style=1, size=16,
            style_size=16, val_fraction=0.25, seed=3, share=share,
        )  # fmt: skip

    with contextlib.ExitStack() as stack:
        whole = stack.enter_context(batches((0, 1)))
        parts = [stack.enter_context(batches((i, processes))) for i in range(processes)]
        whole.set_state(parts[0].get_state() | {'step': 1})
        for part in parts:
            part.set_state(whole.get_state())
        for _ in range(4):  # more than an epoch
            expected, found = next(whole), [next(part) for part in parts]
            for name in batching.MetaBatch._fields:
                joined = np.concatenate([getattr(each, name) for each in found])
                np.testing.assert_array_equal(joined, getattr(expected, name), err_msg=name)
        assert all(part.get_state() == whole.get_state() for part in parts)
    with pytest.raises(image_source.DataError, match='4 styles'):
        batches((0, 3))
