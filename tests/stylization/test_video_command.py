"""Going on after a stop, frames on the standard streams, cameras, full disks, damaged films."""

import contextlib
import fractions
import os
import re
import signal
import subprocess
import sys
import threading

import helpers
import jax
import numpy as np
import pytest
from helpers import ROOT, run_python

import metastyle_jax
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, tensor_files
from metastyle_jax.stylization.video import (
    camera,
    conversion,
    ffmpeg,
    pipeline,
    raw_frames,
    segments,
)

av = pytest.importorskip('av')
import clips  # noqa: E402
from clips import LENGTH, Echo  # noqa: E402

TIMES = [40 * i + 7 * (i % 3) for i in range(43)]  # ms

CONVERT = """
import os, pathlib, signal, sys
from metastyle_jax.stylization.video import conversion, segments
from clips import LENGTH, Echo

clip, folder = map(pathlib.Path, sys.argv[1:3])
for dies in sys.argv[3:]:
    child = os.fork()
    if not child:
        kill = lambda *args, **how: os.kill(os.getpid(), signal.SIGKILL)
        if dies == 'joining':
            segments.writer.join = kill
        render = Echo(int(dies) if dies != 'joining' else None, kill)
        conversion.convert_video(clip, folder / f'{dies}.mp4', render, length=LENGTH)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
"""


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    return clips.make_clip(tmp_path_factory.mktemp('clip') / 'clip.mp4', times=TIMES)


@pytest.fixture(scope='module')
def undisturbed(clip, tmp_path_factory):
    out = tmp_path_factory.mktemp('undisturbed') / 'out.mp4'
    assert conversion.convert_video(clip, out, Echo(), length=LENGTH) == len(TIMES)
    assert os.listdir(out.parent) == ['out.mp4']
    (_, wanted, tone), (frames, times, copied) = clips.read(clip), clips.read(out)
    assert times == wanted
    assert copied == tone
    assert len(frames) == len(TIMES)
    return out.read_bytes()


def test_a_killed_run_goes_on_to_the_same_file(tmp_path, clip, undisturbed):
    # How much is made again: the segment that is open, and what waits to be encoded.
    calls = {'1': 11, '4': 11, '7': 9, 'joining': 1}
    done = run_python(CONVERT, clip, tmp_path, *calls)
    assert done.returncode == 0, done.stderr
    for name, count in calls.items():
        out, render = tmp_path / f'{name}.mp4', Echo()
        assert not out.exists()
        assert conversion.convert_video(clip, out, render, length=LENGTH, resume=True) == len(TIMES)
        assert out.read_bytes() == undisturbed
        assert not segments.segment_folder(out).exists()
        assert render.calls <= count


def test_a_stopped_run_plays_and_goes_on_to_the_same_file(tmp_path, clip, undisturbed):
    out, render = tmp_path / 'out.mp4', Echo()
    done = conversion.convert_video(
        clip, out, render, length=LENGTH, stopped=lambda: render.calls >= 5
    )
    frames, times, sound = clips.read(out)
    assert done == len(frames) == 20
    _, wanted, tone = clips.read(clip)
    assert times == wanted[:20]
    assert sound == tone[: len(sound)]
    with pytest.raises(ffmpeg.VideoError, match=r'other settings \(batch: 4 -> 2'):
        conversion.convert_video(clip, out, Echo(), batch=2, length=LENGTH, resume=True)
    with pytest.raises(ffmpeg.VideoError, match=r'pass resume=True .* or overwrite=True'):
        conversion.check_video_output(out, clip, overwrite=False)
    assert conversion.convert_video(clip, out, Echo(), length=LENGTH, resume=True) == len(TIMES)
    assert out.read_bytes() == undisturbed


def test_a_finished_video_is_gone_on_with_only_under_its_settings(tmp_path, clip, caplog):
    out, render = tmp_path / 'out.mkv', Echo()
    caplog.set_level('INFO')
    conversion.convert_video(clip, out, Echo(), length=LENGTH, settings={'style': 'a'})
    before = out.read_bytes()
    how = {'length': LENGTH, 'resume': True}
    done = conversion.convert_video(clip, out, render, settings={'style': 'a'}, **how)
    assert (done, render.calls) == (len(TIMES), 0)
    assert 'is complete already' in caplog.text
    for settings, change in (({'style': 'b'}, {}), ({'style': 'a'}, {'batch': 2})):
        with pytest.raises(ffmpeg.VideoError, match='made with other settings or by another'):
            conversion.convert_video(clip, out, render, settings=settings, **how, **change)
    assert out.read_bytes() == before
    out.write_bytes(b'no video')
    with pytest.raises(ffmpeg.VideoError, match='made with other settings or by another'):
        conversion.convert_video(clip, out, render, settings={'style': 'a'}, **how)


@pytest.mark.parametrize('name', ['settings.json', '*.npz'])
@pytest.mark.parametrize('content', [b'', b'[1]', b'PK\x03\x04'])
def test_a_damaged_folder_of_segments_is_named(tmp_path, clip, name, content):
    out, render = tmp_path / 'out.mp4', Echo()
    conversion.convert_video(clip, out, render, length=LENGTH, stopped=lambda: render.calls >= 5)
    (file,) = segments.segment_folder(out).glob(name)
    file.write_bytes(content)
    with pytest.raises(ffmpeg.VideoError, match='is damaged .* pass overwrite=True instead'):
        conversion.convert_video(clip, out, Echo(), length=LENGTH, resume=True)


def test_a_folder_of_segments_has_one_user(tmp_path, clip):
    out, refused = tmp_path / 'out.mp4', []

    def again():
        with pytest.raises(ffmpeg.VideoError, match=r'another run.*choose another folder'):
            conversion.convert_video(clip, out, Echo(), length=LENGTH, resume=True)
        refused.append(True)

    conversion.convert_video(clip, out, Echo(2, again), length=LENGTH)
    assert refused


@pytest.mark.parametrize(('limit', 'kept'), [(3000, 0), (30000, 40)])
def test_a_full_disk_leaves_whole_segments_or_nothing(tmp_path, clip, limit, kept):
    resource = pytest.importorskip('resource')
    noise = np.random.default_rng(0)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))  # as if the disk were full
    try:
        with pytest.raises(
            ffmpeg.VideoError, match=r'cannot be written \(File too large\)'
        ) as told:
            conversion.convert_video(
                clip, tmp_path / 'out.mp4', lambda x: noise.random(x.shape, np.float32), length=8
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert os.listdir(tmp_path) == (['out.mp4.parts'] if kept else [])
    assert ('40 frames are kept' in str(told.value)) == bool(kept)


def test_damage_is_told_with_its_time(tmp_path, caplog):
    times = range(0, 4000, 40)
    clip = clips.make_clip(tmp_path / 'clip.mkv', times=times, sound=False)
    whole = bytearray(clip.read_bytes())
    cut = tmp_path / 'cut.mkv'
    cut.write_bytes(whole[: len(whole) * 9 // 10])
    done = conversion.convert_video(cut, tmp_path / 'a.mkv', Echo())
    assert 50 < done < 100
    assert 'though its header says 4.00 s: the rest cannot be read' in caplog.text
    caplog.clear()
    with av.open(str(clip)) as original, av.open(str(tmp_path / 'clip.mp4'), 'w') as writer:
        stream = writer.add_stream_from_template(original.streams.video[0])
        for i, packet in enumerate(original.demux(video=0)):
            if packet.size:
                if i == 50:  # two seconds
                    broken = av.Packet(b'\xff' * packet.size)
                    broken.pts, broken.dts, broken.time_base = (
                        packet.pts,
                        packet.dts,
                        packet.time_base,
                    )
                    packet = broken
                packet.stream = stream
                writer.mux(packet)
    done = conversion.convert_video(tmp_path / 'clip.mp4', tmp_path / 'b.mp4', Echo())
    assert 95 < done <= 100
    # One decoding thread names the frame before; several name it some frames later.
    assert re.search(r'clip.mp4 is damaged at about (1\.96|2\.\d\d) s', caplog.text)
    assert 'ends at' not in caplog.text


def test_a_camera_that_is_faster_gives_its_newest_frames():
    over, exhausted, seen = threading.Event(), threading.Event(), []

    def frames():
        for i in range(50):
            yield pipeline.Frame(np.full((2, 2, 3), i, np.uint8), i)
        exhausted.set()

    def render(pixels):
        exhausted.wait()  # meanwhile all other frames have come
        return pixels

    left_out = pipeline.render_frames(
        frames(), render, lambda made, state: seen.extend(frame.pts for frame in made),
        batch=1, ended=over, newest_only=True,
    )  # fmt: skip
    assert seen[-1] == 49
    assert len(seen) <= 3
    assert left_out == 50 - len(seen)


@pytest.fixture(scope='module')
def style(tmp_path_factory):
    shapes = jax.eval_shape(lambda: transformer.init(jax.random.key(1), width=2, blocks=1))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), shapes)
    made = style_files.Style(
        tensor_files.flatten(params), 'all', 'style', '0' * 64, '0' * 64, {}, {},
    )  # fmt: skip
    path = tmp_path_factory.mktemp('style') / 'style.safetensors'
    style_files.save_style(path, made)
    return path


@pytest.fixture
def command(monkeypatch, style, capfd):
    """Runs the command in this process; returns its code and what it told."""

    def call(*words):
        run = helpers.command_module('stylize').run
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


def test_a_camera_is_recorded_and_an_absent_one_told(tmp_path, monkeypatch, command):
    code, told = command('--input=camera:/dev/none', f'--output={tmp_path}/out.mp4')
    assert code == 2
    assert 'no such camera' in told
    assert os.listdir(tmp_path) == []
    # FFmpeg's test picture comes through the same library of devices.
    source = 'testsrc=size=48x36:rate=25:duration=1'
    monkeypatch.setattr(camera, 'ffmpeg_device', lambda name: ('lavfi', source))
    code, told = command('--input=camera:0', f'--output={tmp_path}/out.mp4')
    assert code == 0, told
    frames, times, _ = clips.read(tmp_path / 'out.mp4')
    assert 1 <= len(frames) <= 25
    assert times == sorted(set(times))
    assert frames[0].shape == (36, 48, 3)


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
def test_cameras_are_named_as_the_system_does(monkeypatch, system, name, expected):
    monkeypatch.setattr(camera.sys, 'platform', system)
    if isinstance(expected, str):
        with pytest.raises(ffmpeg.VideoError, match=expected):
            camera.ffmpeg_device(name)
    else:
        assert camera.ffmpeg_device(name) == expected


def test_raw_frames_go_through_and_a_closed_pipe_ends_quietly(style):
    words = ['--input=-', '--output=-', '--frame_size=48x36', f'--style={style}', '--batch=2']
    env = os.environ | {'PYTHONPATH': str(ROOT)}
    frames = np.random.default_rng(0).integers(0, 256, (6, 36, 48, 3), np.uint8)
    with subprocess.Popen(
        [sys.executable, '-m', 'metastyle_jax.stylize', *words], env=env,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        process.stdin.write(frames.tobytes())
        process.stdin.flush()
        made = process.stdout.read(frames.nbytes)
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(100 * frames.tobytes())
        told = process.stderr.read().decode()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    assert process.returncode == 128 + signal.SIGPIPE
    assert 'metastyle-stylize' not in told
    assert 'Traceback' not in told
    made = np.frombuffer(made, np.uint8).reshape(frames.shape)
    for one, other in zip(made[1:4:2], frames[1:4:2], strict=True):
        expected = metastyle_jax.stylize(style, other / np.float32(255))
        assert np.abs(one / 255 - expected).max() < 0.01


def test_raw_frames_that_end_too_early_are_told(tmp_path, command):
    raw, out = tmp_path / 'raw', tmp_path / 'out.mkv'
    raw.write_bytes(bytes(3 * 48 * 36 * 3 + 7))
    with standard_input(raw):
        code, told = command(
            '--input=-', f'--output={out}', '--frame_size=48x36', '--frame_rate=10'
        )
    assert code == 2
    assert 'ended with 7 bytes of a frame: is --frame_size=48x36 right' in told
    assert clips.read(out)[1] == [0, 100, 200]  # what came is kept
    raw.write_bytes(b'')
    with standard_input(raw):
        code, told = command('--input=-', f'--output={tmp_path}/none.mkv', '--frame_size=48x36')
    assert code == 2
    assert 'no whole frame of 48 x 36 pixels' in told
    assert not (tmp_path / 'none.mkv').exists()


def test_yuv4mpeg_is_written_and_read(tmp_path, command):
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
        code, told = command('--input=-', f'--output={tmp_path}/out.mkv', '--pixel_format=y4m')
    assert code == 0, told
    assert clips.read(tmp_path / 'out.mkv')[1] == [0, 33, 67]


def test_flags_that_do_not_go_together_are_refused(tmp_path, clip, command):
    out = tmp_path / 'out.mp4'
    for words, message in {
        ('--input=-', f'--output={out}'): 'needs --frame_size',
        ('--input=-', f'--output={out}', '--frame_size=48'): 'write WIDTHxHEIGHT',
        ('--input=-', f'--output={out}', '--frame_size=²x16'): 'write WIDTHxHEIGHT',
        ('--input=-', f'--output={out}', '--frame_size=9x9', '--frame_rate=x'): '--frame_rate=x',
        ('--input=camera:0', f'--output={out}', '--resume'): '--resume needs a file',
        (f'--input={clip}', '--output=-', '--resume'): '--resume needs a file',
        (f'--input={clip}', f'--output={out}', '--frame_size=9x9'): 'is for raw frames',
        (f'--input={clip}', '--output=-', '--pixel_format=bgr'): '--pixel_format=bgr',
        (f'--input={clip}', f'--output={out}', '--steady=1.5'): '--steady=1.5',
        (f'--input={clip}', f'--output={out}', '--pixel_format=y4m'): '--pixel_format is for',
        (f'--input={clip}', f'--output={out}', '--tile=always'): '--tile=always is for pictures',
        (f'--input={clip}', f'--output={out}', '--resume', '--overwrite'): 'give one of them',
        (f'--input={clip}', f'--output={tmp_path}/out.avi'): 'must end in one of',
    }.items():
        code, told = command(*words)
        assert code == 2
        assert message in told
    assert os.listdir(tmp_path) == []


def test_the_command_goes_on_and_knows_when_all_is_done(tmp_path, clip, command, caplog):
    words = [f'--input={clip}', f'--output={tmp_path}/out.mp4', '--resume', '--steady=0.6']
    assert command(*words)[0] == 0
    made = (tmp_path / 'out.mp4').read_bytes()
    assert command(*words)[0] == 0
    assert 'nothing to resume' in caplog.text
    assert (tmp_path / 'out.mp4').read_bytes() == made
