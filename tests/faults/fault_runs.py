"""Trainings that are stopped, starved and misled: the real command, in processes of their own.

A process that has imported everything is forked for each training, so that a start costs little.
The networks are as narrow as they can be; all else is what a user runs.
"""

import contextlib
import ctypes
import functools
import hashlib
import multiprocessing
import multiprocessing.forkserver
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import compiling
import jax

from metastyle_jax.core import types
from metastyle_jax.models import vgg
from metastyle_jax.storage import checkpoints, theta_files
from metastyle_jax.training import command, train  # noqa: F401

ROOT = pathlib.Path(types.__file__).parents[2]
CONFIG = (
    f'--config={ROOT}/configs/quickstart.py:tiny',
    '--config.model.width=2',
    '--config.data.size=16',
    '--config.data.style_size=16',
    '--config.outer.contents=1',
    '--config.checkpoint.every=1',
    '--config.log.every=1',
    '--config.log.pictures=0',
)
DAY = 86_400
Process = multiprocessing.process.BaseProcess
Hook = Callable[[pathlib.Path], None]


class Server:
    """Starts trainings.

    Args:
        folder: for compiled programs and the preloaded clock.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._context = multiprocessing.get_context('forkserver')
        self._context.set_forkserver_preload(['fault_runs'])
        self.cache = folder / 'xla'
        self.has_clock = _compile_clock(folder / 'clock.so')
        faults = pathlib.Path(__file__).parent
        paths = os.pathsep.join(map(str, (faults, faults.parent, ROOT)))
        preload = {'LD_PRELOAD': str(folder / 'clock.so')} if self.has_clock else {}
        with mock.patch.dict(os.environ, {'PYTHONPATH': paths, **preload}):
            multiprocessing.forkserver.ensure_running()

    def start(self, folder: pathlib.Path, *changes: str, hook: Hook | None = None) -> Process:
        """Starts a training in a folder; what it says goes to a file beside it.

        Args:
            folder: of the run.
            changes: flags after those of `CONFIG`.
            hook: called in the process with the folder, before all else.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        process = self._context.Process(
            target=_child, args=(folder, self.cache, changes, hook), daemon=True
        )
        process.start()
        return process

    def train(
        self, folder: pathlib.Path, *changes: str, hook: Hook | None = None
    ) -> tuple[int | None, str]:
        """Trains to the end; returns the exit code and what was said."""
        return finish(self.start(folder, *changes, hook=hook), folder)

    @staticmethod
    def close() -> None:
        """Ends the process that is forked."""
        multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]


def finish(process: Process, folder: pathlib.Path, seconds: float = 300) -> tuple[int | None, str]:
    """Waits for the end; returns the exit code, None where there was none, and what was said."""
    process.join(seconds)
    code = process.exitcode
    if code is None:
        process.kill()
    return code, log_file(folder).read_text()


def log_file(folder: pathlib.Path) -> pathlib.Path:
    """What the last training in a folder said; not on the same disk, which may be a small one."""
    return folder.parents[1] / f'{folder.parent.name}-{folder.name}.log'


def wait_for(
    happened: Callable[[], Any], process: Process, *, pause: float = 0.001, seconds: float = 300
) -> bool:
    """Waits until something is so; False where the process ended before."""
    deadline = time.monotonic() + seconds
    while not happened():
        if process.exitcode is not None:
            return False
        if time.monotonic() > deadline:
            raise TimeoutError(f'{happened} was not so after {seconds} s')
        time.sleep(pause)
    return True


def steps(folder: pathlib.Path) -> list[int]:
    """Steps of the whole checkpoints of a run."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(int(x) for x in os.listdir(folder / 'checkpoints') if x.isdigit())
    return []


def half_written(folder: pathlib.Path) -> list[str]:
    """Checkpoints of a run that are being written, or were when it was killed."""
    with contextlib.suppress(FileNotFoundError):
        return [x for x in os.listdir(folder / 'checkpoints') if 'tmp' in x]
    return []


def fingerprint(folder: pathlib.Path, step: int) -> str:
    """Of θ at a step of a run."""
    return theta_files.load_theta(folder / 'checkpoints' / str(step)).fingerprint


def digest(folder: pathlib.Path) -> dict[str, str]:
    """SHA-256 of each file in a folder, by its path below it."""
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob('*'))
        if file.is_file()
    }


def turn_back_clock(
    folder: pathlib.Path, *, seconds: int, limit: float = checkpoints._LIMIT
) -> None:
    """A hook: once there are two checkpoints the clock, ahead until then, is set right.

    Args:
        folder: of the run.
        seconds: how far back it goes.
        limit: of seconds for a checkpoint to be written.
    """
    shift, ahead = _shift_clock(), time.time()
    shift(seconds)
    assert time.time() > ahead + seconds / 2
    checkpoints._LIMIT = limit
    save = checkpoints.Manager.save

    def save_and_shift(self: checkpoints.Manager, *args: Any, **kwargs: Any) -> bool:
        started = save(self, *args, **kwargs)
        if len(steps(folder)) == 1 and started:
            self.wait()
            before = time.time()
            shift(0)
            (folder / 'turned').write_text(str(time.time() - before))
        return started

    checkpoints.Manager.save = save_and_shift  # type: ignore[method-assign]


def shake_clock(folder: pathlib.Path) -> None:
    """A hook: while a checkpoint is written the clock is set back, and it has 5 s to be written."""
    shift = _shift_clock()
    checkpoints._LIMIT = 5

    def watch() -> None:
        behind = 0
        while True:
            if half_written(folder):
                behind += 3600
                shift(-behind)
            time.sleep(0.0005)

    threading.Thread(target=watch, daemon=True).start()


def _shift_clock() -> Callable[[int], None]:
    """The preloaded clock's function that moves it by so many seconds."""
    shift = ctypes.CDLL(None).shift_clock
    shift.argtypes = [ctypes.c_long]
    return shift


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, kilobytes: int) -> Iterator[bool]:
    """Mounts a file system of so many kilobytes, where that is allowed; yields whether it is."""
    folder.mkdir(parents=True)
    command = ['mount', '-t', 'tmpfs', '-o', f'size={kilobytes}k', 'tmpfs', str(folder)]
    mounted = False
    with contextlib.suppress(OSError):
        mounted = not subprocess.run(command, capture_output=True, check=False).returncode
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(['umount', str(folder)], check=True)


def _compile_clock(library: pathlib.Path) -> bool:
    """Compiles clock.c, where there is a compiler."""
    compiler = shutil.which('cc')
    if not compiler or not sys.platform.startswith('linux'):
        return False
    source = pathlib.Path(__file__).with_name('clock.c')
    subprocess.run([compiler, '-shared', '-fPIC', '-O1', '-o', library, source, '-ldl'], check=True)
    return True


def _child(
    folder: pathlib.Path, cache: pathlib.Path, changes: tuple[str, ...], hook: Hook | None
) -> None:
    """The process of a training."""
    log = os.open(log_file(folder), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ['JAX_COMPILATION_CACHE_DIR'] = str(cache)
    os.environ['XLA_FLAGS'] = f'--xla_force_host_platform_device_count=1 {compiling.FLAGS}'
    jax.config.update('jax_compilation_cache_dir', str(cache))
    narrow_loss_network()
    if hook is not None:
        hook(folder)
    sys.argv = ['metastyle-train', *CONFIG, f'--workdir={folder}', *changes]
    sys.exit(command.run_train())


def narrow_loss_network() -> None:
    """Replaces VGG-16 by one of the same layers, 2 to 16 channels wide, with random weights."""
    weights = functools.cache(lambda: vgg.random(jax.random.key(0), width=2))
    vgg.load = lambda *_, **__: weights()
