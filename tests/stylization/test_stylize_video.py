"""`stylize_video` and its command: files, cameras and the standard streams."""

import contextlib
import fractions
import os
import signal
import subprocess
import sys
import threading

import helpers
import jax
import numpy as np
import pytest
from helpers import ROOT
from PIL import Image

import metastyle_jax
from metastyle_jax.core.errors import UserError
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, tensor_files
from metastyle_jax.stylization.video import pipeline, raw_frames
from metastyle_jax.stylization.video.decoding import camera

av = pytest.importorskip('av')
import clips  # noqa: E402
import films  # noqa: E402
from clips import TIMES, make_clip, read  # noqa: E402


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp('clip') / 'clip.mp4')


@pytest.fixture(scope='module')
def style(tmp_path_factory):
    shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(1), width=2, blocks=1))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), shapes)
    style = style_files.Style(
        tensor_files.flatten(params), 'all', 'style', '0' * 64, '0' * 64, {}, {},
    )  # fmt: skip
    path = tmp_path_factory.mktemp('style') / 'style.safetensors'
    style_files.save_style(path, style)
    return path


@pytest.fixture
def command(monkeypatch, style, capfd):
    """Runs the command in this process; returns its code and its error output."""

    def call(*words):
        run = helpers.command_module('stylize').run_stylize
        monkeypatch.setattr(sys, 'argv', ['stylize', f'--style={style}', *map(str, words)])
        code = run()
        return code, capfd.readouterr().err

    return call


@contextlib.contextmanager
def standard_input(path):
    """The file as the standard input."""
    old = os.dup(0)
    with path.open('rb') as file:
        os.dup2(file.fileno(), 0)
    try:
        yield
    finally:
        os.dup2(old, 0)
        os.close(old)


def test_a_camera_is_recorded_and_a_missing_one_reported(tmp_path, monkeypatch, command):
    code, errors = command('--input=camera:/dev/none', f'--output={tmp_path}/out.mp4')
    assert code == 2
    assert 'no such camera' in errors
    assert os.listdir(tmp_path) == []
    # FFmpeg opens its test picture as it opens a camera.
    source = 'testsrc=size=48x36:rate=25:duration=1'
    monkeypatch.setattr(camera, 'ffmpeg_device', lambda name: ('lavfi', source))
    code, errors = command('--input=camera:0', f'--output={tmp_path}/out.mp4')
    assert code == 0, errors
    frames, times, _ = clips.read(tmp_path / 'out.mp4')
    assert 1 <= len(frames) <= 25
    assert times == sorted(set(times))
    assert frames[0].shape == (36, 48, 3)


def test_raw_frames_pass_through_and_a_closed_pipe_ends_quietly(style):
    words = ['--input=-', '--output=-', '--frame_size=48x36', f'--style={style}', '--batch=2']
    env = os.environ | {'PYTHONPATH': str(ROOT)}
    frames = np.random.default_rng(0).integers(0, 256, (6, 36, 48, 3), np.uint8)
    with subprocess.Popen(
        [sys.executable, '-m', 'metastyle_jax.stylize', *words], env=env,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        process.stdin.write(frames.tobytes())
        process.stdin.flush()
        output = process.stdout.read(frames.nbytes)
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(100 * frames.tobytes())
        errors = process.stderr.read().decode()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    assert process.returncode == 128 + signal.SIGPIPE
    assert 'metastyle-stylize' not in errors
    assert 'Traceback' not in errors
    output = np.frombuffer(output, np.uint8).reshape(frames.shape)
    for one, other in zip(output[1:4:2], frames[1:4:2], strict=True):
        expected = metastyle_jax.stylize(style, other / np.float32(255))
        assert np.abs(one / 255 - expected).max() < 0.01


def test_an_incomplete_raw_frame_is_reported(tmp_path, command):
    raw, out = tmp_path / 'raw', tmp_path / 'out.mkv'
    raw.write_bytes(bytes(3 * 48 * 36 * 3 + 7))
    with standard_input(raw):
        code, errors = command(
            '--input=-', f'--output={out}', '--frame_size=48x36', '--frame_rate=10'
        )
    assert code == 2
    assert 'ended with 7 bytes of a frame: is --frame_size=48x36 right' in errors
    assert clips.read(out)[1] == [0, 100, 200]  # the complete frames are kept
    raw.write_bytes(b'')
    with standard_input(raw):
        code, errors = command('--input=-', f'--output={tmp_path}/none.mkv', '--frame_size=48x36')
    assert code == 2
    assert 'no whole frame of 48 x 36 pixels' in errors
    assert not (tmp_path / 'none.mkv').exists()


def test_yuv4mpeg_is_written_and_read_again(tmp_path, command):
    frames = np.random.default_rng(0).integers(100, 150, (3, 36, 48, 3), np.uint8)
    path = tmp_path / 'raw.y4m'
    with path.open('wb') as file:
        pipe = raw_frames.Pipe(file.fileno(), threading.Event())
        rate = fractions.Fraction(30000, 1001)
        writer = raw_frames.RawFrameWriter(pipe, (36, 48), rate=rate, pixel_format='y4m')
        writer.write([pipeline.Frame(frame, i) for i, frame in enumerate(frames)], {})
    assert path.read_bytes().startswith(b'YUV4MPEG2 W48 H36 F30000:1001 ')
    for one, other in zip(clips.read(path)[0], frames, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 3
    with standard_input(path):
        code, errors = command('--input=-', f'--output={tmp_path}/out.mkv', '--pixel_format=y4m')
    assert code == 0, errors
    assert clips.read(tmp_path / 'out.mkv')[1] == [0, 33, 67]


def test_video_flags_that_contradict_each_other_are_refused(tmp_path, clip, command):
    out = tmp_path / 'out.mp4'
    for words, message in {
        ('--input=-', f'--output={out}'): 'needs --frame_size',
        ('--input=-', f'--output={out}', '--frame_size=48'): 'write WIDTHxHEIGHT',
        ('--input=-', f'--output={out}', '--frame_size=²x16'): 'write WIDTHxHEIGHT',
        ('--input=-', f'--output={out}', '--frame_size=9x9', '--frame_rate=x'): '--frame_rate=x',
        ('--input=camera:0', f'--output={out}', '--resume'): '--resume needs files',
        (f'--input={clip}', '--output=-', '--resume'): '--resume needs files',
        (f'--input={clip}', f'--output={out}', '--frame_size=9x9'): 'is for raw frames',
        (
            f'--input={clip}',
            '--output=-',
            '--pixel_format=bgr',
        ): "--pixel_format='bgr': it must be one of rgb24, y4m",
        (f'--input={clip}', f'--output={out}', '--steady=1.5'): '--steady=1.5',
        (
            f'--input={clip}',
            f'--output={out}',
            '--pixel_format=y4m',
        ): '--pixel_format=y4m is for --input=-',
        (f'--input={clip}', f'--output={out}', '--tile=always'): '--tile=always is for pictures',
        (f'--input={clip}', f'--output={out}', '--resume', '--overwrite'): 'give one of them',
        (f'--input={clip}', f'--output={tmp_path}/out.wmv'): 'must end in one of',
    }.items():
        code, errors = command(*words)
        assert code == 2
        assert message in errors
    assert os.listdir(tmp_path) == []


def test_resuming_a_finished_video_changes_nothing(tmp_path, clip, command, caplog):
    words = [f'--input={clip}', f'--output={tmp_path}/out.mp4', '--resume', '--steady=0.6']
    assert command(*words)[0] == 0
    before = (tmp_path / 'out.mp4').read_bytes()
    assert command(*words)[0] == 0
    assert 'nothing to resume' in caplog.text
    assert (tmp_path / 'out.mp4').read_bytes() == before


def test_the_command_stylizes_a_video(tmp_path, monkeypatch, capsys):
    params = transformer.init(jax.random.key(1), width=2, blocks=1)
    style = style_files.Style(
        {name: np.asarray(leaf) for name, leaf in tensor_files.flatten(params).items()},
        'all', 'style', '0' * 64, '0' * 64, {}, {},
    )  # fmt: skip
    style_files.save_style(tmp_path / 'style.safetensors', style)
    clip, out = make_clip(tmp_path / 'clip.mp4'), tmp_path / 'out.mp4'
    words = [f'--style={tmp_path}/style.safetensors', f'--input={clip}', f'--output={out}']
    run = helpers.command_module('stylize').run_stylize
    monkeypatch.setattr(sys, 'argv', ['stylize', *words])
    assert run() == 0
    frames, _, sound = read(out)
    assert len(frames) == len(TIMES)
    assert sound == read(clip)[2]
    (first, *_), *_ = read(clip)
    expected = metastyle_jax.stylize(style, first / np.float32(255))
    assert np.abs(frames[0] / 255 - expected).mean() < 0.03  # what H.264 loses
    for change, message in {
        '--batch=0': '--batch=0',
        '--grid=3': '--grid is for a picture',
        '--max_size=8': 'max_size=8',
        f'--output={tmp_path}/out.wmv': 'must end in',
        f'--output={out}': '--overwrite',
    }.items():
        monkeypatch.setattr(sys, 'argv', ['stylize', *words, change])
        assert run() == 2
        assert message in capsys.readouterr().err


def test_the_command_chooses_the_sound_and_keeps_the_place(tmp_path, command):
    film = films.make_film(tmp_path / 'film.mp4', tags={'location': '+48.1000+011.5000/'})
    for words, codecs, place in [
        (['--sound=none'], [], False),
        (['--sound=opus', '--keep_location'], ['opus'], True),
        ([], ['aac'], False),
    ]:
        code, errors = command(
            f'--input={film}', f'--output={tmp_path}/out.mp4', '--overwrite', *words
        )
        assert code == 0, errors
        assert [track[1] for track in films.tracks(tmp_path / 'out.mp4')] == codecs
        with av.open(str(tmp_path / 'out.mp4')) as opened:
            assert ('location' in opened.metadata) == place
    code, errors = command(f'--input={film}', f'--output={tmp_path}/out.webm', '--sound=aac')
    assert code == 2
    assert '--sound=aac: a .webm file cannot hold that sound: choose --sound=copy' in errors
    code, errors = command('--input=a.png', f'--output={tmp_path}/out.png', '--sound=none')
    assert code == 2


def test_python_stylizes_a_video_with_settings_by_name(tmp_path, style, clip):
    out = tmp_path / 'out.mkv'
    frames = metastyle_jax.stylize_video(style, clip, out, max_size=40, batch=3, steady=0.5)
    assert frames == len(TIMES)
    assert read(out)[0][0].shape == (30, 40, 3)
    settings = metastyle_jax.VideoSettings(max_size=40, batch=3, steady=0.5)
    assert frames == metastyle_jax.stylize_video(style, clip, out, settings=settings, resume=True)
    for changes, message in (
        ({'steady': 1}, 'steady=1: it must be a number at least 0 and below 1'),
        ({'max_size': 8}, 'max_size=8: it must be'),
        ({'stedy': 0.5}, "is 'steady' meant"),
        ({}, 'pass overwrite=True to replace it'),
    ):
        with pytest.raises(UserError, match=message):
            metastyle_jax.stylize_video(style, clip, out, **changes)


def test_what_is_a_film_is_judged_by_content(tmp_path, clip, command):
    for name in ('film.3gp', 'film', 'film.jpg'):
        path = tmp_path / name
        path.write_bytes(clip.read_bytes())
        code, errors = command(f'--input={path}', f'--output={tmp_path}/{name}.mp4')
        assert code == 0, errors
        assert len(read(tmp_path / f'{name}.mp4')[0]) == len(TIMES)
    images = [Image.new('RGB', (48, 36), (60 * i, 99, 99)) for i in range(3)]
    images[0].save(tmp_path / 'a.gif', save_all=True, append_images=images[1:], duration=70)
    code, errors = command(f'--input={tmp_path}/a.gif', f'--output={tmp_path}/a.mp4')
    assert code == 0, errors
    assert read(tmp_path / 'a.mp4')[1] == [0, 70, 140]
    code, errors = command(f'--input={tmp_path}/a.gif', f'--output={tmp_path}/a.png')
    assert code == 0, errors
    with Image.open(tmp_path / 'a.png') as image:
        assert image.format == 'PNG'
