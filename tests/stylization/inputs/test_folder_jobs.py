"""Which pictures are stylized, and to which files."""

import helpers
import pytest
from PIL import Image

from metastyle_jax.core.errors import UserError
from metastyle_jax.stylization.inputs import folder_jobs


def targets(jobs):
    return {str(job.source.name): job.name for job in jobs.pictures}


def test_pictures_of_one_stem_get_files_of_their_own(tmp_path):
    for name in ('a.png', 'a.tif', 'b.tif', 'c.JPG', 'deep/a.bmp'):
        helpers.write_image(tmp_path / 'in' / name)
    Image.new('RGB', (16, 16)).save(tmp_path / 'in' / 'photo', 'JPEG')
    jobs = folder_jobs.plan(tmp_path / 'in', tmp_path / 'out')
    assert targets(jobs) == {
        'a.png': 'a_png.png', 'a.tif': 'a_tif.png', 'b.tif': 'b.png', 'c.JPG': 'c.JPG',
        'a.bmp': 'deep/a.png', 'photo': 'photo.png',
    }  # fmt: skip
    assert not (tmp_path / 'out').exists()


def test_one_name_in_two_folders_gets_the_name_of_the_folder(tmp_path):
    for name in ('x/a.png', 'y/a.png', 'y/b.png'):
        helpers.write_image(tmp_path / name)
    expected = ['b.png', 'x_a.png', 'y_a.png']
    for inputs in (
        [tmp_path / 'x', tmp_path / 'y'],
        [tmp_path / 'y' / 'a.png', tmp_path / 'x', tmp_path / 'y' / 'b.png'],
    ):
        jobs = folder_jobs.plan(inputs, f'{tmp_path}/out/')
        assert sorted(job.name for job in jobs.pictures) == expected


def test_a_pattern_that_names_the_output_folder_too_leaves_it_out(tmp_path):
    helpers.write_image(tmp_path / 'a.png')
    helpers.write_image(tmp_path / 'out' / 'b.png')
    assert targets(folder_jobs.plan(tmp_path / '*', tmp_path / 'out')) == {'a.png': 'a.png'}


def test_outputs_that_would_do_harm_are_refused(tmp_path):
    helpers.write_image(tmp_path / 'in' / 'a.png')
    helpers.write_image(tmp_path / 'in' / 'b.png')
    (tmp_path / 'file').touch()
    both = [tmp_path / 'in' / 'a.png', tmp_path / 'in' / 'b.png']
    for inputs, output, message in (
        (tmp_path / 'in', tmp_path / 'out.png', r'must be a folder too: for example .*/out/'),
        (both, tmp_path / 'out.png', '2 files are given, so output=.* must be a folder too'),
        (both, tmp_path / 'file', 'is a file, and a folder is needed'),
        (tmp_path / 'in', tmp_path / 'in' / 'out', 'is inside of input='),
        (both, tmp_path / 'in', 'a.png is one of the inputs'),
        (tmp_path / 'file', tmp_path / 'out', 'holds no pictures'),
    ):
        with pytest.raises(UserError, match=message):
            folder_jobs.plan(inputs, output)


def test_settings_for_existing_files_exclude_each_other():
    for given in ((True, True, False), (True, False, True), (False, True, True)):
        with pytest.raises(UserError, match='exclude each other'):
            folder_jobs.ExistingFiles(*given).check([], None)
