"""Names of cameras on each operating system."""

import pytest

from metastyle_jax.stylization.video import ffmpeg
from metastyle_jax.stylization.video.decoding import camera


@pytest.mark.parametrize(
    ('system', 'name', 'expected'),
    [
        ('linux', '1', ('v4l2', '/dev/video1')),
        ('linux', '/dev/v4l/by-id/x', ('v4l2', '/dev/v4l/by-id/x')),
        ('darwin', '0', ('avfoundation', '0')),
        ('win32', 'Lens', ('dshow', 'video=Lens')),
        ('win32', '0', 'on Windows name the camera'),
        ('linux', '', 'needs a number or a name'),
    ],
)
def test_cameras_have_the_names_of_each_operating_system(monkeypatch, system, name, expected):
    monkeypatch.setattr(camera.sys, 'platform', system)
    if isinstance(expected, str):
        with pytest.raises(ffmpeg.VideoError, match=expected):
            camera.ffmpeg_device(name)
    else:
        assert camera.ffmpeg_device(name) == expected
