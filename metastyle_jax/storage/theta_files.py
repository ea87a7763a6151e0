"""Reads θ from a training run, a checkpoint, a file or the Hub, and writes it to a file."""

import json
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax.core import checks, types
from metastyle_jax.models import norm_predictor, transformer
from metastyle_jax.storage import run_folder, tensor_files
from metastyle_jax.storage.hub import hub_fetching

SHIPPED = pathlib.Path(__file__).parents[1] / 'theta.safetensors'  # see docs/model_card.md
_FORMAT = tensor_files.FileFormat(
    name='metastyle_jax.theta',
    version=1,
    noun='θ file',
    remedy='give it to `metastyle stylize` as style=FILE',
    keys=('settings',),
    error=tensor_files.CheckpointError,
)
_PREDICTOR = 'predictor/'  # prefix of the tensors of a norm predictor
_RATES = 'rates/'  # prefix of learned inner rates
_log = logging.getLogger(__name__)


class Theta(NamedTuple):
    """An initialization, from which styles are adapted.

    Attributes:
        params: parameters of the transformer, float32, nested dicts.
        fingerprint: `tensor_files.fingerprint` of `params`.
        settings: the configuration of its training; empty if unknown.
        rates: name of a parameter -> its learned inner rates: `[]` for one rate, or the shape of
            the parameter for a rate of each element. With different rates for each of T inner
            steps: `[T, 1, …]` or `[T, *shape]`. None if no rates were learned.
        predictor: network that predicts, from a style image, the instance norms to start with; None
            if there is none.
    """

    params: types.Params
    fingerprint: str
    settings: dict[str, Any]
    rates: dict[str, Any] | None = None
    predictor: norm_predictor.Predictor | None = None

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str], *, revision: str = '') -> 'Theta':
        """Reads θ from the Hub, or from a folder that `save_pretrained` wrote.

        Args:
            name: OWNER/NAME on the Hub, or the folder.
            revision: branch, tag or commit on the Hub; '' for main.

        Raises:
            UserError: it does not exist or cannot be read, see `load_theta`.
        """
        if pathlib.Path(name, hub_fetching.FILE).is_file():
            return load_theta(pathlib.Path(name, hub_fetching.FILE))
        return load_theta(f'{hub_fetching.SCHEME}{name}' + (f'@{revision}' if revision else ''))

    def save_pretrained(self, folder: str | os.PathLike[str], **options: Any) -> None:
        """Writes θ and a model card to a folder, see `hub_publishing.save_pretrained`."""
        from metastyle_jax.storage.hub import hub_publishing  # it imports this module

        hub_publishing.save_pretrained(self, pathlib.Path(folder), **options)

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Uploads θ and a model card to the Hub, see `hub_publishing.push_to_hub`."""
        from metastyle_jax.storage.hub import hub_publishing  # it imports this module

        return hub_publishing.push_to_hub(self, repo_id, **options)


def load_theta(path: str | os.PathLike[str] | None = None) -> Theta:
    """Reads θ. If a run has several checkpoints, the chosen one is logged.

    Args:
        path: the folder of a training run, for its best checkpoint (the latest one if none has a
            metric); one checkpoint, such as ``RUN/checkpoints/1200``; a ``.safetensors`` file in
            float32 or float16; or ``hf://OWNER/NAME[@REVISION]``. None for the θ of the package.

    Returns:
        `Theta`.

    Raises:
        UserError: θ does not exist, cannot be read, is damaged, is not a θ, or has a value that is
            not finite.
    """
    if path is None:
        path = SHIPPED
    elif not str(path):
        raise tensor_files.CheckpointError('theta= is empty: give a path, or leave it out.')
    elif str(path).startswith(hub_fetching.SCHEME):
        path = hub_fetching.fetch(str(path))
    path = run_folder.to_path(path)
    try:
        found = path.exists()
    except OSError as error:
        raise tensor_files.CheckpointError(
            f'{path} cannot be read ({error.strerror or error}): make it readable.'
        ) from error
    if not found:
        raise tensor_files.CheckpointError(
            f'There is no θ at {path}: name the folder of a training run, one of its checkpoints '
            'or a .safetensors file.'
        )
    if path.is_dir():
        flat, settings, path = read_run(run_folder.absolute(path))
    else:
        flat, metadata = tensor_files.read(path, _FORMAT)
        settings = tensor_files.read_json(metadata, 'settings', path, tensor_files.CheckpointError)
    flat = {name: array.astype(np.float32) for name, array in flat.items()}
    tensor_files.check_finite(flat, path, tensor_files.CheckpointError)
    rates, flat = _split(flat, _RATES)
    predictor, flat = _split(flat, _PREDICTOR)
    _check_rates(rates, flat, path)
    params = jax.tree.map(jnp.asarray, tensor_files.unflatten(flat))
    return Theta(
        params,
        tensor_files.sha256(flat),
        settings,
        rates or None,
        _predictor(predictor, flat, path),
    )


def _predictor(
    found: tensor_files.Flat, flat: tensor_files.Flat, path: pathlib.Path
) -> norm_predictor.Predictor | None:
    """Builds the norm predictor; raises CheckpointError if its shapes do not match θ."""
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
        raise tensor_files.CheckpointError(
            f'{path} has a predictor that does not belong to its θ. Make the file again.'
        )
    kernel, bias, out = jax.tree.map(jnp.asarray, (rest['kernel'], rest['bias'], out))
    return norm_predictor.Predictor(kernel, bias, out)


def _split(flat: tensor_files.Flat, prefix: str) -> tuple[tensor_files.Flat, tensor_files.Flat]:
    """Splits tensors by a prefix of their names; returns those that have it, and the others.

    The prefix is removed from the names.
    """
    chosen = {
        name.removeprefix(prefix): array for name, array in flat.items() if name.startswith(prefix)
    }
    return chosen, {name: array for name, array in flat.items() if not name.startswith(prefix)}


def _check_rates(rates: tensor_files.Flat, flat: tensor_files.Flat, path: pathlib.Path) -> None:
    """Raises CheckpointError unless rates are positive, match θ and agree on their steps."""
    steps = set()
    for name, rate in rates.items():
        if name not in flat or not _fits(rate, flat[name].shape) or not np.all(rate > 0):
            values = rate if rate.size == 1 else f'an array of shape {rate.shape}'
            raise tensor_files.CheckpointError(
                f'{path} has {values} as the learned rate of {name}: rates must be positive '
                'numbers for a parameter of θ, one or as many as it has elements. Make the file '
                'again.'
            )
        steps.add(len(rate) if rate.ndim > flat[name].ndim else 1)
    if len(steps) > 1:
        raise tensor_files.CheckpointError(
            f'{path} has learned rates for different numbers of steps. Make the file again.'
        )


def _fits(rate: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether learned rates have a shape that `Theta.rates` allows for a parameter."""
    if rate.ndim == len(shape) + 1:  # rates of each step
        return rate.shape[1:] in (shape, (1,) * len(shape))
    return rate.shape in ((), shape)


def save_theta(
    path: str | os.PathLike[str],
    params: types.Params,
    *,
    settings: Mapping[str, Any],
    rates: Mapping[str, Any] | None = None,
    predictor: norm_predictor.Predictor | None = None,
    dtype: str = 'float32',
    overwrite: bool = False,
) -> None:
    """Writes θ to one ``.safetensors`` file.

    Args:
        path: the file.
        params: the parameters, a pytree of float arrays.
        settings: the configuration of the training, as JSON types.
        rates: learned inner rates, see `Theta.rates`, stored as float32; None if there are none.
        predictor: the norm predictor; None if there is none.
        dtype: 'float32', or 'float16' for half the size; rounding changes the fingerprint.
        overwrite: whether an existing file may be replaced.

    Raises:
        CheckpointError: the file exists or cannot be written, or a value is not finite.
    """
    checks.one_of('dtype', dtype, ('float32', 'float16'), tensor_files.CheckpointError)
    # A value too large for float16 becomes infinite, and is refused below.
    with np.errstate(over='ignore'):
        flat = {name: array.astype(dtype) for name, array in tensor_files.flatten(params).items()}
        for name, array in tensor_files.flatten(predictor and predictor._asdict()).items():
            flat[_PREDICTOR + name] = array.astype(dtype)
    for name, rate in (rates or {}).items():
        flat[_RATES + name] = np.asarray(rate, np.float32)
    metadata = {'settings': json.dumps(dict(settings), default=str)}
    tensor_files.write(pathlib.Path(path), flat, metadata, _FORMAT, overwrite=overwrite)


def read_run(
    folder: pathlib.Path, *, noun: str = 'θ'
) -> tuple[tensor_files.Flat, dict[str, Any], pathlib.Path]:
    """Reads the trained tensors from the folder of a run or from one of its checkpoints.

    Args:
        folder: ``RUN`` for the best checkpoint, or the latest if none has a metric;
            ``RUN/checkpoints/STEP`` for this one.
        noun: what the log calls the tensors.

    Returns:
        Name -> array as in a θ file; the configuration of the run; the folder of the checkpoint.

    Raises:
        CheckpointError: there is no checkpoint, or it cannot be read.
    """
    if folder.name.isdecimal() and not (folder / 'checkpoints').is_dir():
        run, step = folder.parent.parent, int(folder.name)
    else:
        run, step = (folder.parent if folder.name == 'checkpoints' else folder), None
    within = folder.parent if step is not None else run / 'checkpoints'
    if not within.is_dir():
        raise tensor_files.CheckpointError(
            f'{folder} is no training run: it has no folder checkpoints. Name the folder of one.'
        )
    from metastyle_jax.storage import checkpoint_reading  # imports Orbax, which is slow

    checkpoint = checkpoint_reading.read(within, step)
    if checkpoint.chosen_as:
        _log.info(
            '%s: step %d of %s (%s of %d)',
            noun,
            checkpoint.step,
            run,
            checkpoint.chosen_as,
            checkpoint.total,
        )
    path, flat = within / str(checkpoint.step), checkpoint.flat
    params, flat = _split(flat, 'params/')
    if not params:
        raise tensor_files.CheckpointError(
            f'The checkpoint {path} holds no params: it was saved by another program.'
        )
    log_rates, flat = _split(flat, 'log_rates/')
    predictor, _ = _split(flat, 'predictor/params/')
    flat = (
        params
        | {_RATES + name: np.exp(array) for name, array in log_rates.items()}
        | {_PREDICTOR + name: array for name, array in predictor.items()}
    )
    return flat, run_folder.read_config(run) or {}, path
