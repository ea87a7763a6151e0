"""Videos that are stopped, killed and resumed; full disks and damaged folders."""

import os

import numpy as np
import pytest
from helpers import run_python

from metastyle_jax.stylization.video import conversion, ffmpeg
from metastyle_jax.stylization.video.encoding import segments

av = pytest.importorskip('av')
import clips  # noqa: E402
from clips import LENGTH, Echo  # noqa: E402

LONG_TIMES = [40 * i + 7 * (i % 3) for i in range(43)]  # ms

CONVERT = """
import os, pathlib, signal, sys
from metastyle_jax.stylization.video import conversion
from metastyle_jax.stylization.video.encoding import segments
from clips import LENGTH, Echo

clip, folder = map(pathlib.Path, sys.argv[1:3])
for dies in sys.argv[3:]:
    child = os.fork()
    if not child:
        kill = lambda *args, **options: os.kill(os.getpid(), signal.SIGKILL)
        if dies == 'joining':
            segments.joining.join = kill
        render = Echo(int(dies) if dies != 'joining' else None, kill)
        conversion.convert_video(clip, folder / f'{dies}.mp4', render, length=LENGTH)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
"""


@pytest.fixture(scope='module')
def clip(tmp_path_factory):
    return clips.make_clip(tmp_path_factory.mktemp('clip') / 'clip.mp4', times=LONG_TIMES)


@pytest.fixture(scope='module')
def undisturbed(clip, tmp_path_factory):
    out = tmp_path_factory.mktemp('undisturbed') / 'out.mp4'
    assert conversion.convert_video(clip, out, Echo(), length=LENGTH) == len(LONG_TIMES)
    assert os.listdir(out.parent) == ['out.mp4']
    (_, wanted, tone), (frames, times, copied) = clips.read(clip), clips.read(out)
    assert times == wanted
    assert copied == tone
    assert len(frames) == len(LONG_TIMES)
    return out.read_bytes()


def test_a_killed_run_is_resumed_to_the_same_file(tmp_path, clip, undisturbed):
    # Limits of the work that is repeated: the open segment, and frames that wait for the encoder.
    calls = {'1': 11, '4': 11, '7': 9, 'joining': 1}
    done = run_python(CONVERT, clip, tmp_path, *calls)
    assert done.returncode == 0, done.stderr
    for name, count in calls.items():
        out, render = tmp_path / f'{name}.mp4', Echo()
        assert not out.exists()
        assert conversion.convert_video(clip, out, render, length=LENGTH, resume=True) == len(
            LONG_TIMES
        )
        assert out.read_bytes() == undisturbed
        assert not segments.segment_folder(out).exists()
        assert render.calls <= count


def test_a_stopped_run_can_be_played_and_is_resumed_to_the_same_file(tmp_path, clip, undisturbed):
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
    assert conversion.convert_video(clip, out, Echo(), length=LENGTH, resume=True) == len(
        LONG_TIMES
    )
    assert out.read_bytes() == undisturbed


def test_a_finished_video_is_accepted_only_with_its_settings(tmp_path, clip, caplog):
    out, render = tmp_path / 'out.mkv', Echo()
    caplog.set_level('INFO')
    conversion.convert_video(clip, out, Echo(), length=LENGTH, settings={'style': 'a'})
    before = out.read_bytes()
    options = {'length': LENGTH, 'resume': True}
    done = conversion.convert_video(clip, out, render, settings={'style': 'a'}, **options)
    assert (done, render.calls) == (len(LONG_TIMES), 0)
    assert 'is complete already' in caplog.text
    for settings, change in (({'style': 'b'}, {}), ({'style': 'a'}, {'batch': 2})):
        with pytest.raises(ffmpeg.VideoError, match='made with other settings or by another'):
            conversion.convert_video(clip, out, render, settings=settings, **options, **change)
    assert out.read_bytes() == before
    out.write_bytes(b'no video')
    with pytest.raises(ffmpeg.VideoError, match='made with other settings or by another'):
        conversion.convert_video(clip, out, render, settings={'style': 'a'}, **options)


@pytest.mark.parametrize('name', ['settings.json', '*.npz'])
@pytest.mark.parametrize('content', [b'', b'[1]', b'PK\x03\x04'])
def test_a_damaged_folder_of_segments_is_reported(tmp_path, clip, name, content):
    out, render = tmp_path / 'out.mp4', Echo()
    conversion.convert_video(clip, out, render, length=LENGTH, stopped=lambda: render.calls >= 5)
    (file,) = segments.segment_folder(out).glob(name)
    file.write_bytes(content)
    with pytest.raises(ffmpeg.VideoError, match='is damaged .* pass overwrite=True instead'):
        conversion.convert_video(clip, out, Echo(), length=LENGTH, resume=True)


def test_a_folder_of_segments_is_used_by_one_run_only(tmp_path, clip):
    out, refused = tmp_path / 'out.mp4', []

    def again():
        with pytest.raises(ffmpeg.VideoError, match=r'another run.*choose another folder'):
            conversion.convert_video(clip, out, Echo(), length=LENGTH, resume=True)
        refused.append(True)

    conversion.convert_video(clip, out, Echo(2, again), length=LENGTH)
    assert refused


@pytest.mark.parametrize(('limit', 'kept'), [(3000, 0), (30000, 40)])
def test_a_full_disk_leaves_complete_segments_or_nothing(tmp_path, clip, limit, kept):
    resource = pytest.importorskip('resource')
    noise = np.random.default_rng(0)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))  # as if the disk were full
    try:
        with pytest.raises(
            ffmpeg.VideoError, match=r'cannot be written \(File too large\)'
        ) as raised:
            conversion.convert_video(
                clip, tmp_path / 'out.mp4', lambda x: noise.random(x.shape, np.float32), length=8
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert os.listdir(tmp_path) == (['out.mp4.parts'] if kept else [])
    assert ('40 frames are kept' in str(raised.value)) == bool(kept)


@pytest.mark.parametrize(
    'name', ['a' * 251 + '.mp4', 'ü' * 69 + 'x.mp4', '日' * 83 + '.mp4', 'short.mp4']
)
def test_names_that_the_program_adds_fit_encrypted_disks(tmp_path, clip, name):
    out, render, names = tmp_path / name, Echo(), []

    def stopped():
        names.extend(os.listdir(tmp_path))
        return render.calls >= 5

    conversion.convert_video(clip, out, render, length=LENGTH, stopped=stopped)
    names.extend(os.listdir(tmp_path))
    added = {len(os.fsencode(other)) for other in names} - {len(os.fsencode(name))}
    assert max(added, default=0) <= 143
    assert segments.segment_folder(out).is_dir()
    assert conversion.convert_video(clip, out, Echo(), length=LENGTH, resume=True) == len(
        LONG_TIMES
    )
    assert os.listdir(tmp_path) == [name]


def test_long_names_with_the_same_beginning_have_folders_of_their_own(tmp_path):
    names = ['x' * 200 + end for end in ('a.mp4', 'b.mp4')]
    folders = {segments.segment_folder(tmp_path / name).name for name in names}
    assert len(folders) == 2


def test_a_disk_that_is_full_while_joining_keeps_all_segments(tmp_path, clip, monkeypatch):
    resource = pytest.importorskip('resource')
    noise = np.random.default_rng(0)
    out, real = tmp_path / 'out.mp4', segments.joining.join

    def join(*args, **options):
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, old[1]))
        try:
            real(*args, **options)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)

    def render(pixels):
        return noise.random(pixels.shape, np.float32)

    with monkeypatch.context() as patch:
        patch.setattr(segments.joining, 'join', join)
        with pytest.raises(ffmpeg.VideoError, match='free some disk space, and resume.*40 frames'):
            conversion.convert_video(clip, out, render, length=LENGTH)
    assert os.listdir(tmp_path) == ['out.mp4.parts']
    assert conversion.convert_video(clip, out, render, length=LENGTH, resume=True) == len(
        LONG_TIMES
    )
