"""Checkpoints of training, and θ: of a run, of one of its checkpoints, or of a file.

Checkpoints are Orbax's, which this module alone imports; a θ file is one ``.safetensors``. A
checkpoint too is checked, when it is read back, against a SHA-256 taken when it was written.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import logging
import os
import pathlib
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from orbax import checkpoint as ocp

from metastyle_jax import hub, predict, tensors, transformer, trees, types, workdir

_FORMAT = tensors.Format(
    name='metastyle_jax.theta',
    version=1,
    noun='θ file',
    remedy='give it to metastyle-stylize as --style',
    keys=('settings',),
    error=tensors.CheckpointError,
)
# Orbax gives the errors of its C++ parts as ValueError; these tell nothing about the file.
_NO_DAMAGE = re.compile(
    r'^(ABORTED|CANCELLED|DEADLINE_EXCEEDED|PERMISSION_DENIED|RESOURCE_EXHAUSTED|UNAVAILABLE)'
)
SHIPPED = pathlib.Path(__file__).with_name('theta.safetensors')  # see docs/MODEL_CARD.md
_META_1 = {'sha256', 'keys', 'data_state'}  # what checkpoints of version 0.1 say of themselves
_PREDICTOR = 'predictor/'  # before those of a predictor's tensors
_RATES = 'rates/'  # before the names of learned rates in a θ file
# Seconds to wait for a save. Tensorstore starts its threads by the calendar's clock: set back, it
# can make a save wait until it has caught up, and Orbax, whose own limit is by it too, as long.
_LIMIT = 600
_log = logging.getLogger(__name__)
_abandoned: list[pathlib.Path] = []  # folders of saves that did not end


# Checkpoints of training.


class Restored(NamedTuple):
    """A checkpoint, read back.

    Attributes:
        step: its step.
        state: the state as it was, bit for bit, in the structure asked for.
        data_state: the state of the data iterator.
    """

    step: int
    state: types.PyTree
    data_state: dict[str, Any]


class Manager:
    """Saves checkpoints in the background and finds them again.

    A checkpoint becomes visible whole or not at all; what a killed run left half written is
    removed on the next start. The last few are kept, and the one of the lowest metric. Arrays are
    copied to the host before `save` returns, so their buffers may be donated at once, and are
    stored without devices, so a checkpoint opens on a machine with any number of them.

    Args:
        folder: where the checkpoints go, one sub-folder for each step; made if need be.
        keep: how many of the latest are kept.
        every: steps between checkpoints; `save` does nothing at others unless forced.

    Raises:
        tensors.CheckpointError: from any method, if the folder cannot be written or read. Errors
            of a save in the background come out of the next `save`, `wait` or `close`.
    """

    def __init__(self, folder: str | os.PathLike[str], *, keep: int = 3, every: int = 1):
        if keep < 1 or every < 1:
            raise tensors.CheckpointError(f'keep={keep} and every={every} must both be at least 1.')
        self.folder = workdir.absolute(workdir.place(folder))
        self._every = every
        self._caller = futures.ThreadPoolExecutor(1, 'checkpoint')
        with self._errors('open'):
            damaged = _without_rank(self.folder)
            if damaged and len(damaged) == sum(x.name.isdecimal() for x in self.folder.iterdir()):
                raise _none_whole(self.folder, damaged)
            self._rename(damaged)
            self._manager = _open(self.folder, keep=keep)

    def __enter__(self) -> 'Manager':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(
        self,
        step: int,
        state: types.PyTree,
        *,
        data_state: Mapping[str, Any],
        metric: float | None = None,
        force: bool = False,
    ) -> bool:
        """Starts to save a checkpoint, once the one before it is written.

        Args:
            step: the number of finished steps.
            state: a pytree of arrays, numbers and typed keys, with θ in its entry ``params``.
            data_state: state of the data iterator: JSON types and numpy scalars.
            metric: what the best checkpoint is chosen by, lower is better; None or NaN: it cannot
                be the best.
            force: save even if `every` does not divide the step.

        Returns:
            Whether a save was started: not at other steps, nor if the step is saved already.

        Raises:
            tensors.CheckpointError: if this save or the one before it failed.
        """
        if not (force or step % self._every == 0) or step in self._manager.all_steps():
            return False
        flat = tensors.flatten(state)
        usable = metric is not None and np.isfinite(metric)
        metrics = {'metric': float(metric)} if usable else None  # type: ignore[arg-type]
        meta = {
            'sha256': tensors.sha256(flat),
            'keys': {
                trees.leaf_name(path): str(jax.random.key_impl(leaf))
                for path, leaf in jax.tree_util.tree_leaves_with_path(state)
                if trees.is_key(leaf)
            },
            'data_state': _to_json(data_state),
            'metrics': metrics,
        }
        meta['meta_sha256'] = _meta_sha256(meta)
        args = ocp.args.Composite(
            state=ocp.args.StandardSave(tensors.unflatten(flat)), meta=ocp.args.JsonSave(meta)
        )
        with self._errors('save'):
            save = functools.partial(self._manager.save, step, args=args, metrics=metrics)
            return bool(self._call(functools.partial(save, force=True)))

    def restore(self, abstract_state: types.PyTree) -> Restored | None:
        """Reads the latest whole checkpoint back.

        Damaged ones after it are logged and renamed to ``STEP.damaged``. Where one cannot be read
        for another reason, as a lack of memory or of permission, all are left as they are.

        Args:
            abstract_state: the structure, shapes and types to return; arrays or
                `jax.ShapeDtypeStruct`. Leaves come back as numpy arrays or Python numbers where
                they are such here, and else as arrays on the default device, committed to none.

        Returns:
            The checkpoint, or None if there is none at all.

        Raises:
            tensors.CheckpointError: if none is whole, one cannot be read, or it is of another
                structure.
        """
        self.wait()
        damaged = []
        for step in sorted(self._manager.all_steps(), reverse=True):
            path = self.folder / str(step)
            try:
                flat, meta = _read(self._manager, path)
            except _DamagedError as error:
                damaged.append(step)
                _log.warning('The checkpoint %s is damaged: %s', path, error)
                continue
            state = _restore_leaves(abstract_state, flat, meta['keys'], path)
            self._rename(damaged)
            if damaged:
                self._manager.reload()
            return Restored(step, state, json.loads(meta['data_state']))
        if damaged:
            raise _none_whole(self.folder, damaged)
        return None

    def latest_step(self) -> int | None:
        """Tells the step of the latest checkpoint, one being saved included."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Tells the step of the checkpoint of the lowest metric; None if none has one."""
        return self._manager.best_step()

    def wait(self) -> None:
        """Returns when the running save, if any, is on disk."""
        with self._errors('save'):
            self._call(self._manager.wait_until_finished)

    def close(self) -> None:
        """Waits for the running save and ends the background threads."""
        if self.folder in _abandoned:
            return
        try:
            self.wait()
        finally:
            if self.folder not in _abandoned:
                with self._errors('save'):
                    self._call(self._manager.close)
            self._caller.shutdown(wait=False)

    def _call(self, function: Callable[[], Any]) -> Any:
        """Calls what waits for a save, always in one thread: Orbax tells each thread its errors."""
        call = self._caller.submit(function)
        if not futures.wait([call], timeout=_LIMIT).done:
            _abandoned.append(self.folder)
            raise tensors.CheckpointError(
                f'The checkpoint being saved in {self.folder} was not written within {_LIMIT} s: '
                'see that the disk or bucket answers, and that the clock is not set back during '
                'the run. The checkpoints saved before are whole, and the same command resumes.'
            )
        return call.result()

    def _rename(self, damaged: list[int]) -> None:
        """Renames damaged checkpoints, so that their steps can be saved again."""
        for step in damaged:
            source = self.folder / str(step)
            with self._errors('rename'), contextlib.suppress(FileNotFoundError):
                source.rename(_free_name(source.with_suffix('.damaged')))

    @contextlib.contextmanager
    def _errors(self, verb: str) -> Iterator[None]:
        """Turns whatever Orbax raises into an error that names folder and remedy."""
        try:
            yield
        except types.UserError:
            raise
        except Exception as error:
            manager = getattr(self, '_manager', None)
            if manager is not None:
                # Orbax has entered the failed step, and dropped the ones it would have replaced.
                manager.reload()
            raise tensors.CheckpointError(
                f'Cannot {verb} checkpoints in {self.folder}: {tensors.first_line(error)}. Free '
                'some space and see that the folder is writable, or choose another --workdir; the '
                'checkpoints saved before are whole.'
            ) from error


class Elsewhere:
    """The part of `Manager` in a process that leaves checkpoints to another one."""

    def __enter__(self) -> 'Elsewhere':
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def save(self, step: int, state: types.PyTree, **_: Any) -> bool:
        """Saves nothing."""
        return False

    def restore(self, abstract_state: types.PyTree) -> Restored | None:
        """Reads nothing."""
        return None

    def latest_step(self) -> int | None:
        """Knows of none."""
        return None

    def wait(self) -> None:
        """Returns at once."""


def abandoned() -> bool:
    """Whether a save did not end in time: its threads would keep the process from ending too."""
    return bool(_abandoned)


def _free_name(path: pathlib.Path) -> pathlib.Path:
    """The path, or the first of PATH-2, PATH-3, ... that is not taken."""
    names = itertools.chain(
        [path], (path.with_name(f'{path.name}-{i}') for i in itertools.count(2))
    )
    return next(name for name in names if not name.exists())


def _without_rank(folder: pathlib.Path) -> list[int]:
    """Logs and lists steps whose metric cannot be read, for which Orbax would open none at all."""
    damaged: list[int] = []
    if not isinstance(folder, pathlib.Path):  # a bucket, which writes a file whole or not at all
        return damaged
    for path in sorted(path for path in folder.glob('*') if path.name.isdecimal()):
        try:
            _metric(_rank(path) or {'metric': np.nan})  # it may have been saved without
        except (
            ValueError, RecursionError, LookupError, TypeError, NotADirectoryError
        ) as error:  # fmt: skip
            damaged.append(int(path.name))
            _log.warning(
                'The checkpoint %s is damaged: its metric cannot be read (%s)',
                path,
                tensors.first_line(error),
            )
        except OSError as error:
            raise tensors.CheckpointError(
                f'The metric of the checkpoint {path} cannot be read ({error.strerror}), and may '
                'be whole: see that its files are readable, or move it away.'
            ) from error
    return damaged


def _none_whole(folder: pathlib.Path, tried: list[int]) -> tensors.CheckpointError:
    """Says that there is nothing to go on from, and what to do."""
    return tensors.CheckpointError(
        f'No checkpoint in {folder} is whole (tried {tried}): start again in another --workdir, '
        'or put a copy back.'
    )


def _open(folder: pathlib.Path, keep: int | None = None) -> ocp.CheckpointManager:
    """Opens Orbax's manager, for reading alone unless told how many to keep.

    The state is the same in all processes, so Orbax is to wait for no other than the first.
    """
    # Orbax reports every step of its work, and logs each exception several times.
    logging.getLogger('absl').addFilter(_is_not_chatter)
    _hush_late_writes()
    policies = ocp.checkpoint_managers
    best = policies.BestN(
        get_metric_fn=_metric, reverse=True, n=1, keep_checkpoints_without_metrics=False
    )
    if keep is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(
            best_fn=_metric,
            best_mode='min',
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
            cleanup_tmp_directories=True,
            read_only=keep is None,
            create=False,
            multiprocessing_options=ocp.options.MultiprocessingOptions(
                primary_host=0, active_processes={0}
            ),
        ),
    )


def _metric(metrics: Mapping[str, float]) -> float:
    """Picks the number that checkpoints are ranked by."""
    return float(metrics['metric'])


def _meta_sha256(meta: Mapping[str, Any]) -> str:
    """Hashes all of a checkpoint but its tensors, whose hash it holds."""
    rest = {name: value for name, value in meta.items() if name != 'meta_sha256'}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _is_not_chatter(record: logging.LogRecord) -> bool:
    """Lets pass all log records but Orbax's reports and tracebacks."""
    if '/orbax/' not in pathlib.PurePath(record.pathname).as_posix():
        return True
    if record.exc_info:  # is raised as well, and so becomes a CheckpointError
        _log.debug('Orbax: %s', record.getMessage(), exc_info=record.exc_info)
    return record.levelno >= logging.ERROR and not record.exc_info


def _hush_late_writes() -> None:
    """Keeps silent what tensorstore says of reads and writes that outlive one that failed.

    It is dozens of tracebacks, among which the error itself would be lost.
    """
    tell = sys.unraisablehook
    if getattr(tell, 'hushes_late_writes', False):
        return

    def hook(unraisable: Any) -> None:
        error = unraisable.exc_value
        if isinstance(error, RuntimeError) and str(error) == 'Event loop is closed':
            _log.debug('tensorstore: %s', error)
        else:
            tell(unraisable)

    hook.hushes_late_writes = True  # type: ignore[attr-defined]
    sys.unraisablehook = hook


class _DamagedError(Exception):
    """A checkpoint that is not what was saved."""


def _read(
    manager: ocp.CheckpointManager, path: pathlib.Path
) -> tuple[tensors.Flat, dict[str, Any]]:
    """Reads a checkpoint as it was written and compares its SHA-256.

    Raises:
        _DamagedError: if it is damaged.
        tensors.CheckpointError: if it cannot be read, and may be whole.
    """
    args = ocp.args.Composite(state=ocp.args.StandardRestore(), meta=ocp.args.JsonRestore())
    try:
        restored = manager.restore(int(path.name), args=args)
        flat, meta = tensors.flatten(restored['state']), restored['meta']
        # Those of older versions have no hash of what stands beside the tensors.
        complete = meta.keys() == _META_1 or meta.get('meta_sha256') == _meta_sha256(meta)
        if not complete or tensors.sha256(flat) != meta['sha256']:
            raise _DamagedError('its contents are not those that were saved')
        if 'metrics' in meta and _rank(path) != meta['metrics']:
            raise _DamagedError('its metric is not the one that was saved')
    except _DamagedError:
        raise
    except Exception as error:  # a damaged file can lead to any
        _forget(error)
        line = tensors.first_line(error)
        missing = isinstance(error, FileNotFoundError)
        if (isinstance(error, OSError | MemoryError) and not missing) or _NO_DAMAGE.match(line):
            raise tensors.CheckpointError(
                f'The checkpoint {path} cannot be read ({line}), and may be whole: see that its '
                'files are readable and that memory suffices, and start again; or move it away.'
            ) from error
        raise _DamagedError(line) from error
    return flat, meta


def _forget(error: Exception) -> None:
    """Frees what Orbax held when it failed; Python would complain of coroutines it never ran."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'coroutine .* was never awaited', RuntimeWarning)
        traceback.clear_frames(error.__traceback__)


def _rank(path: pathlib.Path) -> dict[str, float] | None:
    """The metrics beside a checkpoint, as Orbax keeps them; None if there are none."""
    try:
        return json.loads((path / 'metrics' / 'metrics').read_text())
    except FileNotFoundError:
        return None


def _restore_leaves(
    abstract: types.PyTree, flat: tensors.Flat, keys: Mapping[str, str], source: pathlib.Path
) -> types.PyTree:
    """Gives the arrays of a checkpoint the structure and kinds of an abstract state."""
    shapes = jax.tree.map(
        lambda x: jax.eval_shape(jax.random.key_data, x) if trees.is_key(x) else x, abstract
    )
    tensors.fill(shapes, flat, source=str(source), error=tensors.CheckpointError)

    def restore(path: Any, leaf: Any) -> Any:
        name = trees.leaf_name(path)
        array: Any = flat[name]
        if name in keys:
            array = jax.random.wrap_key_data(jnp.asarray(array), impl=keys[name])
        if not hasattr(leaf, 'dtype'):
            return type(leaf)(array)
        if array.dtype in (np.int64, np.float64) and not array.ndim and leaf.dtype.itemsize == 4:
            array = _narrow(array, leaf.dtype)
        if leaf.dtype != array.dtype:
            raise tensors.CheckpointError(
                f'{name} in {source} is {array.dtype}, expected {leaf.dtype}: it was saved with '
                'another configuration. Choose another --workdir, or the old configuration.'
            )
        return array if isinstance(leaf, np.ndarray | np.generic) else jnp.asarray(array)

    return jax.tree_util.tree_map_with_path(restore, abstract)


def _narrow(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Gives a Python number, which is saved with 64 bits, jax's 32 if they hold it."""
    narrow = array.astype(dtype)
    return narrow if narrow.dtype.kind == array.dtype.kind and narrow == array else array


def _to_json(value: Any) -> str:
    """Writes JSON; numpy's scalars are admitted."""

    def encode(x: Any) -> Any:
        if isinstance(x, np.generic | np.ndarray):
            return x.tolist()
        raise tensors.CheckpointError(f'{x!r} in the state of the data cannot be saved as JSON.')

    return json.dumps(value, default=encode)


# θ: of a training run, of one of its checkpoints, or of a file.


class Theta(NamedTuple):
    """The initialization that styles are adapted from.

    Attributes:
        params: float32, nested dicts.
        fingerprint: `tensors.fingerprint` of the params.
        settings: the configuration it was trained with, empty if unknown.
        rates: learned inner rates, name of a parameter -> scalar, or None; see `meta.Meta`.
        predictor: of the norms that a style begins with, or None.
    """

    params: types.Params
    fingerprint: str
    settings: dict[str, Any]
    rates: dict[str, Any] | None = None
    predictor: predict.Predictor | None = None


def load_theta(path: str | os.PathLike[str] | None = None) -> Theta:
    """Reads θ; logs which step of a run it is, where the path does not say.

    Args:
        path: the folder of a training run (its best checkpoint, or the latest where none has a
            metric), one checkpoint of it (``RUN/checkpoints/1200``), a ``.safetensors`` file
            of float32 or float16, or ``hf://OWNER/NAME[@REVISION]``; None for the one that comes
            with the package.

    Returns:
        `Theta`.

    Raises:
        UserError: if there is no such thing, or it cannot be read, is damaged, no θ, or not
            finite.
    """
    if path is None:
        path = SHIPPED
    elif not str(path):
        raise tensors.CheckpointError('--theta is empty: give a path, or leave it out.')
    elif str(path).startswith(hub.SCHEME):
        path = hub.fetch(str(path))
    path = workdir.place(path)
    try:
        found = path.exists()
    except OSError as error:
        raise tensors.CheckpointError(
            f'{path} cannot be read ({error.strerror or error}): make it readable.'
        ) from error
    if not found:
        raise tensors.CheckpointError(
            f'There is no θ at {path}: name the folder of a training run, one of its checkpoints '
            'or a .safetensors file.'
        )
    if path.is_dir():
        flat, settings, path = _read_run(workdir.absolute(path))
    else:
        flat, metadata = tensors.read(path, _FORMAT)
        settings = tensors.read_json(metadata, 'settings', path, tensors.CheckpointError)
    flat = {name: array.astype(np.float32) for name, array in flat.items()}
    tensors.check_finite(flat, path, tensors.CheckpointError)
    rates, flat = _split(flat, _RATES)
    predictor, flat = _split(flat, _PREDICTOR)
    _check_rates(rates, flat, path)
    params = jax.tree.map(jnp.asarray, tensors.unflatten(flat))
    return Theta(
        params, tensors.sha256(flat), settings, rates or None, _predictor(predictor, flat, path)
    )


def _predictor(
    found: tensors.Flat, flat: tensors.Flat, path: pathlib.Path
) -> predict.Predictor | None:
    """The predictor of a file; raises CheckpointError unless it is one for this θ."""
    if not found:
        return None
    out, rest = _split(found, 'out/')
    norms = {name: array.shape for name, array in flat.items() if transformer.adapted('norm')(name)}
    width = rest['bias'].shape if 'bias' in rest else ()
    expected = {name: (*width, *shape) for name, shape in norms.items()}
    if (
        rest.keys() != {'kernel', 'bias'}
        or rest['kernel'].ndim != 2
        or rest['kernel'].shape[1:] != width
        or {name: array.shape for name, array in out.items()} != expected
    ):
        raise tensors.CheckpointError(
            f'{path} has a predictor that does not belong to its θ. Make the file again.'
        )
    kernel, bias, out = jax.tree.map(jnp.asarray, (rest['kernel'], rest['bias'], out))
    return predict.Predictor(kernel, bias, out)


def _split(flat: tensors.Flat, prefix: str) -> tuple[tensors.Flat, tensors.Flat]:
    """Tensors whose names begin so, without that beginning, and the others."""
    chosen = {
        name.removeprefix(prefix): array for name, array in flat.items() if name.startswith(prefix)
    }
    return chosen, {name: array for name, array in flat.items() if not name.startswith(prefix)}


def _check_rates(rates: tensors.Flat, flat: tensors.Flat, path: pathlib.Path) -> None:
    """Raises CheckpointError unless each rate is a positive number for a tensor that is there."""
    for name, rate in rates.items():
        if name not in flat or rate.shape or not rate > 0:
            raise tensors.CheckpointError(
                f'{path} has {rate} as the learned rate of {name}: it must be one positive number '
                'for a parameter of θ. Make the file again.'
            )


def save_theta(
    path: str | os.PathLike[str],
    params: types.Params,
    *,
    settings: Mapping[str, Any],
    rates: Mapping[str, Any] | None = None,
    predictor: predict.Predictor | None = None,
    dtype: str = 'float32',
    overwrite: bool = False,
) -> None:
    """Writes θ to one ``.safetensors`` file.

    Args:
        path: the file.
        params: a pytree of float arrays.
        settings: the configuration it was trained with, JSON types.
        rates: learned inner rates, if there are any; they are kept as float32.
        predictor: of the norms that a style begins with, if there is one.
        dtype: 'float32', or 'float16' for half the size and another fingerprint.
        overwrite: whether an existing file may be replaced.

    Raises:
        tensors.CheckpointError: if the file exists or cannot be written, or values are not finite.
    """
    if dtype not in ('float16', 'float32'):
        raise tensors.CheckpointError(f"θ is kept as 'float32' or 'float16', not {dtype!r}.")
    with np.errstate(over='ignore'):  # what float16 cannot hold becomes infinite, and is refused
        flat = {name: array.astype(dtype) for name, array in tensors.flatten(params).items()}
        for name, array in tensors.flatten(predictor and predictor._asdict()).items():
            flat[_PREDICTOR + name] = array.astype(dtype)
    for name, rate in (rates or {}).items():
        flat[_RATES + name] = np.asarray(rate, np.float32)
    metadata = {'settings': json.dumps(dict(settings), default=str)}
    tensors.write(pathlib.Path(path), flat, metadata, _FORMAT, overwrite=overwrite)


@contextlib.contextmanager
def _opened(folder: pathlib.Path) -> Iterator[ocp.CheckpointManager]:
    """Opens Orbax's manager for reading, and closes it."""
    if damaged := _without_rank(folder):
        raise tensors.CheckpointError(
            f'The metrics of the checkpoints {damaged} in {folder} cannot be read, which keeps the '
            'others from being opened: move these away, or resume the run, which does that.'
        )
    try:
        manager = _open(folder)
    except Exception as error:  # Orbax's, whatever they are
        raise tensors.CheckpointError(
            f'The checkpoints in {folder} cannot be read ({tensors.first_line(error)}): see that '
            'the folder is readable, and a training run of this program.'
        ) from error
    with contextlib.closing(manager):
        yield manager


def _read_run(folder: pathlib.Path) -> tuple[tensors.Flat, dict[str, Any], pathlib.Path]:
    """Finds and reads θ in a run's folder or in one of its checkpoints."""
    if folder.name.isdecimal() and not (folder / 'checkpoints').is_dir():
        run, step = folder.parent.parent, int(folder.name)
    else:
        run, step = (folder.parent if folder.name == 'checkpoints' else folder), None
    checkpoints = folder.parent if step is not None else run / 'checkpoints'
    if not checkpoints.is_dir():
        raise tensors.CheckpointError(
            f'{folder} is no training run: it has no folder checkpoints. Name the --workdir of one.'
        )
    with _opened(checkpoints) as manager:
        steps = manager.all_steps()
        if not steps or (step is not None and step not in steps):
            raise tensors.CheckpointError(
                f'There is no checkpoint yet in {folder}: wait for the first, or name another.'
            )
        if step is None:
            best = manager.best_step()
            step = best if best is not None else max(steps)
            chosen = 'latest' if best is None else 'best'
            _log.info('θ: step %d of %s (%s of %d)', step, run, chosen, len(steps))
        path = checkpoints / str(step)
        try:
            flat, _ = _read(manager, path)
        except _DamagedError as error:
            raise tensors.CheckpointError(
                f'The checkpoint {path} is damaged ({error}): name another step of {sorted(steps)}.'
            ) from error
    params, flat = _split(flat, 'params/')
    if not params:
        raise tensors.CheckpointError(
            f'The checkpoint {path} holds no params: it is of another program.'
        )
    log_rates, flat = _split(flat, 'log_rates/')
    predictor, _ = _split(flat, 'predictor/params/')
    flat = (
        params
        | {_RATES + name: np.exp(array) for name, array in log_rates.items()}
        | {_PREDICTOR + name: array for name, array in predictor.items()}
    )
    return flat, workdir.read_config(run) or {}, path
