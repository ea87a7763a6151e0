"""Systems with trained parameters: reading and writing their files.

A file holds what was trained, in `.safetensors`. The encoder is not in it, because its weights are
fixed and come from elsewhere, see `encoder_weights`.
"""

import importlib
import inspect
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from metastyle_jax.baselines import metastyle, systems
from metastyle_jax.baselines.features import encoder_weights
from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Params
from metastyle_jax.models import transformer
from metastyle_jax.models import vgg as vgg_network
from metastyle_jax.storage import tensor_files, theta_files

# Folder of the files that the package contains: NAME.safetensors.
SHIPPED = pathlib.Path(__file__).parent.parent / 'weights'
# Systems that are trained once, for all styles.
NAMES = ('adain', 'wct', 'avatar-net', 'style-swap', 'meta-networks')
_FORMAT = tensor_files.FileFormat(
    name='metastyle_jax.system',
    version=1,
    noun='file of a trained system',
    remedy='give it to the command that it is for',
    keys=('system', 'options', 'settings'),
    error=UserError,
)


class TrainedSystem(NamedTuple):
    """A system with trained parameters.

    Attributes:
        system: the system.
        params: its parameters, with the encoder.
        options: the arguments of `systems.get` that the parameters need.
        settings: the configuration of the training; empty if unknown.
    """

    system: systems.System
    params: Params
    options: dict[str, Any]
    settings: dict[str, Any]


def load(
    name: str,
    weights: str | os.PathLike[str] | None = None,
    *,
    encoder: str | None = None,
    vgg: str | os.PathLike[str] | None = None,
    **options: Any,
) -> TrainedSystem:
    """Reads a system with all that it needs to make pictures.

    Args:
        name: one of `systems.NAMES`.
        weights: file that `save` wrote; folder of a training run, or one of its checkpoints; or
            for AdaIN decoder.pth of pytorch-AdaIN; for MetaStyle θ, see `theta_files.load_theta`.
            None for the weights in the package. The systems 'gatys' and 'johnson' need none.
        encoder: the encoder that the weights were trained with; None if the weights tell.
        vgg: file of the encoder's weights, see `encoder_weights.load_encoder`; for the systems
            'gatys', 'johnson' and 'metastyle' that of the loss network.
        **options: further arguments of `systems.get`, such as ``steps=30`` for 'metastyle'.

    Returns:
        The system and its parameters.

    Raises:
        UserError: there are no weights, they cannot be read, or belong to another system or
            encoder.
    """
    checks.one_of('system', name, systems.NAMES)
    if weights is not None and not str(weights):
        raise UserError('weights= is empty: give a path, or leave it out')
    if name not in NAMES:
        return _load_by_descent(name, weights, vgg, options)
    path = pathlib.Path(SHIPPED / f'{name}.safetensors' if weights is None else weights)
    if path.suffix.lower() == '.pth':
        return _load_public(name, path, encoder, vgg, options)
    if weights is None and not path.is_file():
        raise UserError(f'{name} has no trained weights in this package: {_remedy(name)}')
    if not path.exists():
        raise UserError(f'weights={path}: there is no such file or folder: {_remedy(name)}')
    flat, stored, settings = (_read_run if path.is_dir() else _read_file)(name, path)
    if stored != system_options(name, stored):
        raise UserError(f'{path} has options that {name} does not take, {stored}: export it again')
    trained_with = stored.get('encoder', 'vgg16')
    if encoder is not None and trained_with != encoder:
        raise UserError(
            f'encoder={encoder!r}: it must be {trained_with!r}, with which the weights in {path} '
            'were trained; or leave it out'
        )
    options = {**stored, **options}
    system = systems.get(name, **options)
    shapes = jax.eval_shape(system.init, jax.random.key(0))
    of_encoder = shapes.pop('encoder')
    cut, width = max(of_encoder).replace('conv', 'relu'), of_encoder['conv1_1']['bias'].shape[0]
    flat = tensor_files.as_float32(flat, path, UserError)
    params = {
        **tensor_files.restore_tree(shapes, flat, source=str(path), error=UserError),
        'encoder': encoder_weights.load_encoder(trained_with, cut, vgg, width=width),
    }
    return TrainedSystem(system, params, options, settings)


def read_tensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads the tensors of a file that `save` wrote, of any system, as float32.

    Args:
        path: the file.

    Returns:
        Name of a tensor, such as 'decoder/conv4_1/kernel' -> the tensor.

    Raises:
        UserError: the file cannot be read.
    """
    flat, _ = tensor_files.read(pathlib.Path(path), _FORMAT)
    return tensor_files.as_float32(flat, pathlib.Path(path), UserError)


def save(
    path: str | os.PathLike[str],
    name: str,
    params: Params,
    *,
    options: Mapping[str, Any],
    settings: Mapping[str, Any] | None = None,
    dtype: str = 'float16',
    overwrite: bool = False,
) -> None:
    """Writes the trained parameters of a system to one ``.safetensors`` file.

    Args:
        path: the file.
        name: one of `NAMES`.
        params: its parameters; an encoder among them is left out.
        options: the arguments of `systems.get` that the parameters need.
        settings: the configuration of the training.
        dtype: 'float16', or 'float32' for twice the size.
        overwrite: whether an existing file may be replaced.

    Raises:
        UserError: the file exists or cannot be written, or a value is not finite in this type.
    """
    checks.one_of('system', name, NAMES)
    checks.one_of('dtype', dtype, ('float16', 'float32'))
    trained = {part: tree for part, tree in params.items() if part != 'encoder'}
    with np.errstate(over='ignore'):  # a value too large becomes infinite, and is refused
        flat = {key: leaf.astype(dtype) for key, leaf in tensor_files.flatten(trained).items()}
    metadata = {
        'system': name,
        'options': json.dumps(dict(options)),
        'settings': json.dumps(dict(settings or {}), default=str),
    }
    tensor_files.write(pathlib.Path(path), flat, metadata, _FORMAT, overwrite=overwrite)


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Raises the errors that `save` would raise for this path, before any work is done.

    Args:
        path: the file to be written later.
        overwrite: whether an existing file may be replaced.
    """
    tensor_files.check_output(pathlib.Path(path), _FORMAT, overwrite=overwrite)


def system_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Chooses, among the options of a training, those that the system itself takes.

    Args:
        name: one of `systems.NAMES`.
        given: option -> value, of the system and of its training.
    """
    module = importlib.import_module(f'metastyle_jax.baselines.{systems.MODULES[name]}')
    taken = inspect.signature(module.system).parameters
    return {option: value for option, value in given.items() if option in taken}


def _load_by_descent(
    name: str,
    weights: str | os.PathLike[str] | None,
    vgg: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
) -> TrainedSystem:
    """Loads a system that descends the loss: on pixels, from random weights, or from θ."""
    if name == 'gatys':
        return TrainedSystem(systems.get(name, **options), vgg_network.load(vgg), {**options}, {})
    if vgg is not None:
        options = {**options, 'vgg_file': str(vgg)}
    if name == 'johnson':
        system = systems.get(name, **options)
        return TrainedSystem(system, system.init(jax.random.key(0)), {**options}, {})
    theta = theta_files.load_theta(weights)
    width, blocks = transformer.width_and_blocks(theta.params)
    options = {'width': width, 'blocks': blocks, **options}
    system = systems.get(name, **options)
    return TrainedSystem(system, metastyle.from_theta(theta), {**options}, theta.settings)


def _load_public(
    name: str,
    path: pathlib.Path,
    encoder: str | None,
    vgg: str | os.PathLike[str] | None,
    options: Mapping[str, Any],
) -> TrainedSystem:
    """Reads the public decoder of AdaIN, and the encoder that belongs to it."""
    if name != 'adain':
        raise UserError(f'weights={path}: .pth files are read for adain only: {_remedy(name)}')
    options = {**options, 'encoder': encoder or 'vgg19-normalized'}
    if options['encoder'] == 'vgg16':
        raise UserError(f"encoder='vgg16': the decoder in {path} mirrors VGG-19: leave it out")
    decoder = encoder_weights.load_adain_decoder(path)
    if vgg is None and options['encoder'] == 'vgg19-normalized':
        raise UserError(
            f'weights={path} needs the encoder that it was trained with: give vgg=FILE, the file '
            'vgg_normalised.pth of pytorch-AdaIN'
        )
    system = systems.get(name, **options)
    params = {
        'encoder': encoder_weights.load_encoder(options['encoder'], 'relu4_1', vgg),
        'decoder': decoder,
    }
    return TrainedSystem(system, params, options, {})


def _read_file(
    name: str, path: pathlib.Path
) -> tuple[tensor_files.Flat, dict[str, Any], dict[str, Any]]:
    """Reads tensors, options and settings from a file that `save` wrote."""
    flat, metadata = tensor_files.read(path, _FORMAT)
    if metadata['system'] != name:
        raise UserError(f'weights={path} are those of {metadata["system"]}, not of {name}')
    options, settings = (
        tensor_files.read_json(metadata, key, path, UserError) for key in ('options', 'settings')
    )
    return flat, options, settings


def _read_run(
    name: str, path: pathlib.Path
) -> tuple[tensor_files.Flat, dict[str, Any], dict[str, Any]]:
    """Reads tensors, options and settings from a training run."""
    flat, settings, _ = theta_files.read_run(path.absolute(), noun='weights')
    recipe = settings.get('recipe', '')
    if recipe != f'metastyle_jax.baselines.{systems.MODULES[name]}':
        raise UserError(
            f'weights={path}: this run trained {recipe or "metastyle"}, not {name}: {_remedy(name)}'
        )
    from metastyle_jax.training.recipes import training_recipe  # needed for runs only

    options = training_recipe.parse_options(settings.get('recipe_options', ()))
    module = importlib.import_module(recipe)
    defaults = {
        option: parameter.default
        for option, parameter in inspect.signature(module.recipe).parameters.items()
    }
    return flat, system_options(name, {**defaults, **options}), settings


def _remedy(name: str) -> str:
    """Says where weights of a system can come from."""
    train = (
        f'train them with `metastyle train --config=configs/baselines.py:{name} '
        f'--workdir=runs/{name}`, then give weights=runs/{name}'
    )
    if name == 'adain':
        train += '; or give weights=decoder.pth and vgg=vgg_normalised.pth of pytorch-AdaIN'
    return train
