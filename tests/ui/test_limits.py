"""What visitors may upload."""

import pathlib

import pytest
from PIL import Image

from metastyle_jax.core.errors import UserError
from metastyle_jax.ui import limits
from metastyle_jax.ui.config import UiConfig


def test_pictures_within_the_limits_are_accepted(photo, config):
    assert limits.check_picture(photo, config) == []


def test_wrong_files_are_refused_in_a_sentence(tmp_path, config):
    Image.new('L', (1200, 1000)).save(tmp_path / 'large.png')
    Image.new('L', (200, 8)).save(tmp_path / 'flat.png')
    (tmp_path / 'text.jpg').write_text('This is a text.')
    (tmp_path / 'empty.jpg').touch()
    heic = b'\0\0\0\x18ftypheic\0\0\0\0mif1heic' + bytes(100)
    (tmp_path / 'phone.heic').write_bytes(heic)
    for name, message in (
        ('large.png', '1200 × 1000 pixels, and at most 1 million are'),
        ('flat.png', '200 x 8'),
        ('text.jpg', 'is a text or a web page'),
        ('empty.jpg', 'empty: was the upload interrupted'),
        ('phone.heic', 'phone.heic'),
        ('missing.jpg', 'did not arrive'),
    ):
        with pytest.raises(UserError, match=message) as caught:
            limits.check_picture(tmp_path / name, config)
        text = limits.sentence(caught.value, tmp_path.parent)
        assert str(tmp_path.parent) not in text
        assert text[-1] in '.!?'


def test_files_of_too_many_bytes_are_refused(tmp_path):
    with open(tmp_path / 'large.mp4', 'wb') as opened:
        opened.truncate(1_000_001)
    with pytest.raises(UserError, match='limit of 1 megabytes'):
        limits.check_size(tmp_path / 'large.mp4', UiConfig(max_upload=1))


def test_of_an_animation_the_first_frame_is_used_and_told(tmp_path, config):
    frames = [Image.new('RGB', (20, 20), (i * 80, 9, 9)) for i in range(3)]
    frames[0].save(tmp_path / 'moving.gif', save_all=True, append_images=frames[1:])
    told = limits.check_picture(tmp_path / 'moving.gif', config)
    assert told == ['moving.gif: only the first of its 3 frames is used.']


def test_the_number_of_files_is_limited():
    for count in (0, 3):
        with pytest.raises(UserError, match='choose'):
            limits.check_count([pathlib.Path('a')] * count, UiConfig(max_files=2))
    limits.check_count([pathlib.Path('a')] * 2, UiConfig(max_files=2))


def test_messages_show_no_folders_of_the_server(tmp_path):
    error = UserError(f'{tmp_path}/ab/cd/my photo.jpg: is damaged')
    assert limits.sentence(error, tmp_path) == 'My photo.jpg: is damaged.'
