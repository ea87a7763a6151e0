"""Many pictures, and films, in the chosen style."""

import zipfile

import clips
import numpy as np
import pytest
from PIL import Image
from stylization_helpers import make_style

from metastyle_jax.core.errors import UserError
from metastyle_jax.stylization.video import ffmpeg
from metastyle_jax.ui import jobs, sessions, studio
from metastyle_jax.ui.config import RenderOptions, UiConfig

PLAIN = RenderOptions()


@pytest.fixture
def ready(session):
    session.styles['one'] = sessions.ListedStyle(make_style(1), np.zeros((2, 2, 3), np.uint8))
    session.choose({'one': 1})
    return session


@pytest.fixture
def uploads(tmp_path, photo):
    """Two photographs of the same name, and a text."""
    paths = [tmp_path / name / 'photo.jpg' for name in 'ab']
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(photo.read_bytes())
    (tmp_path / 'text.jpg').write_text('This is a text.')
    return [*map(str, paths), str(tmp_path / 'text.jpg')]


def test_many_pictures_become_one_archive(place, ready, uploads):
    reports = []
    result = jobs.stylize_pictures(
        place, ready, uploads, PLAIN, lambda *report: reports.append(report)
    )
    assert (result.done, result.stopped) == (2, False)
    assert [path.name for path in result.left_out] == ['text.jpg']
    assert reports == [(0, 2), (1, 2), (2, 2)]
    with zipfile.ZipFile(result.file) as archive:
        assert len({*archive.namelist()}) == 2
        with archive.open(archive.namelist()[0]) as opened, Image.open(opened) as image:
            assert image.size == (24, 20)
    assert {path.name for path in ready.folder.iterdir()} == {'archive'}  # no copies are left


def test_a_stopped_job_gives_what_is_finished(place, ready, uploads):
    def stop_after_one(done, count):
        if done == 1:
            ready.stop.set()

    result = jobs.stylize_pictures(place, ready, uploads, PLAIN, stop_after_one)
    assert (result.done, result.stopped) == (1, True)
    with pytest.raises(UserError, match='Stopped before'):
        jobs.stylize_pictures(place, ready, uploads, PLAIN, lambda *_: ready.stop.set())


def test_wrong_pictures_are_told(place, ready, session, uploads):
    with pytest.raises(UserError, match='None of the files can be used'):
        jobs.stylize_pictures(place, ready, uploads[2:], PLAIN, lambda *_: None)
    with pytest.raises(UserError, match='choose at least one'):
        jobs.stylize_pictures(place, ready, [], PLAIN, lambda *_: None)
    session.chosen = {}
    with pytest.raises(UserError, match='no style yet'):
        jobs.stylize_pictures(place, session, uploads, PLAIN, lambda *_: None)


@pytest.fixture
def film(tmp_path):
    pytest.importorskip('av')
    clips.make_clip(tmp_path / 'film.mp4')
    return str(tmp_path / 'film.mp4')


def test_a_film_is_stylized_and_reported(place, ready, film):
    reports = []
    result = jobs.stylize_film(place, ready, film, PLAIN, lambda *report: reports.append(report))
    assert result.file.name == 'film.mp4'
    assert result.file.stat().st_size > 0
    assert result.done == reports[-1][0] > 1
    assert reports[-1][1] in (0, result.done)


def test_films_that_are_too_long_or_none_are_refused(
    theta_file, ready, film, tmp_path, monkeypatch
):
    place = studio.Studio(UiConfig(theta=theta_file, keep=False, max_frames=1))
    with pytest.raises(UserError, match='frames, more than 1'):
        jobs.stylize_film(place, ready, film, PLAIN, lambda *_: None)
    text = tmp_path / 'text.mp4'
    text.write_text('This is a text.')
    with pytest.raises(UserError, match=r'text\.mp4'):
        jobs.stylize_film(place, ready, str(text), PLAIN, lambda *_: None)

    def missing():
        raise ffmpeg.VideoError("video needs PyAV: pip install 'metastyle_jax[video]'")

    monkeypatch.setattr(ffmpeg, 'require_pyav', missing)
    with pytest.raises(UserError, match=r'metastyle_jax\[video\]'):
        jobs.stylize_film(place, ready, film, PLAIN, lambda *_: None)
