"""The schema of the training configuration: each entry's type, default, range and meaning.

The defaults are the values of the paper (Zhang, Zhu and Zhu 2019, arXiv 1812.05233), so a
configuration file lists only the entries that differ. The checks, the flags ``--config.NAME`` and
the table in the documentation are all derived from this schema.

This module imports nothing heavy, so that ``metastyle-train --help`` answers quickly.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from metastyle_jax.core import checks, loss_weights


class ConfigEntry(NamedTuple):
    """One entry of the configuration.

    Attributes:
        name: dotted name, such as 'inner.steps'.
        field: field of the section's dataclass, made by `checks.setting`: default, range, meaning.
    """

    name: str
    field: dataclasses.Field

    @property
    def meaning(self) -> str:
        """One sentence that says what the entry means."""
        return self.field.metadata['help']


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The style transformer."""

    width: int = checks.setting(32, 'Number of channels of the first convolution.', least=1)
    # Tracing more than 1000 blocks would take hours.
    blocks: int = checks.setting(5, 'Number of residual blocks.', least=1, most=1000)
    init: str = checks.setting(
        '',
        'Initialization to start from: the folder of a run or a .safetensors file. Random '
        'parameters if empty.',
    )
    predictor: bool = checks.setting(
        False,
        'Whether a small network predicts, from the Gram matrices of a style, the instance norms '
        'with which the inner loop of this style starts.',
    )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Content images and style images."""

    content: str = checks.setting(
        'tfds:coco/2017:train',
        'Source of the content images: sample:, folder:PATH or tfds:NAME[/CONFIG][:SPLIT].',
    )
    style: str = checks.setting(
        'folder:data/wikiart', 'Source of the style images, written like data.content.'
    )
    content_exclude: tuple[str, ...] = checks.setting(
        (), 'Content images whose names contain one of these words are left out.'
    )
    style_exclude: tuple[str, ...] = checks.setting(
        (), 'Style images whose names contain one of these words are left out.'
    )
    hold_out: bool = checks.setting(
        False,
        'Whether to leave out one image in sixteen, chosen by the hash of its name, for '
        'metastyle-evaluate --held_out.',
    )
    tfds_dir: str = checks.setting(
        '',
        'Folder of the data sets of TensorFlow Datasets. If empty, $TFDS_DATA_DIR or '
        '~/tensorflow_datasets.',
    )
    val_fraction: float = checks.setting(
        0.1, 'Share of the content images that only the outer loss uses (D_val).', above=0, below=1
    )
    size: int = checks.setting(256, 'Height and width of the content images in pixels.', least=16)
    style_size: int = checks.setting(
        256, 'Height and width of the style images in pixels.', least=16
    )
    style_fit: Literal['crop', 'squash'] = checks.setting(
        'crop',
        'How a style image becomes square: crop takes a random square of it, squash resizes the '
        'whole image.',
    )
    keep_grams: float = checks.setting(
        0.0,
        'Memory in GiB that keeps Gram matrices of style images from one epoch to the next; 0 '
        'keeps none. It needs data.style_fit=squash.',
        least=0,
    )
    workers: int = checks.setting(
        8, 'Number of processes that decode images; 0 decodes in threads instead.', least=0
    )


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the perceptual loss."""

    content_weight: float = checks.setting(
        loss_weights.CONTENT_WEIGHT, 'Weight of the content loss.', least=0
    )
    style_weight: float = checks.setting(
        loss_weights.STYLE_WEIGHT, 'Weight of the style loss.', least=0
    )


@dataclasses.dataclass(frozen=True)
class InnerConfig:
    """The inner loop, which adapts the initialization to one style."""

    steps: int = checks.setting(
        1, 'Number T of inner steps; 0 trains plainly on all styles at once.', least=0
    )
    rate: float = checks.setting(1e-4, 'Rate δ of the inner optimizer.', above=0)
    optimizer: Literal['sgd', 'momentum', 'adam'] = checks.setting('sgd', 'The inner optimizer.')
    log_loss: bool = checks.setting(
        False,
        'Whether the inner loop minimizes the logarithm of the loss, whose gradients have a '
        'similar size for all styles.',
    )
    eps_root: float = checks.setting(
        1e-8,
        'eps_root of an inner Adam; its second derivatives are finite only above 0.',
        least=0,
    )
    params: Literal['all', 'norm'] = checks.setting(
        'all',
        'Parameters that the inner loop adapts: all, or norm for the scales and biases of instance '
        'norms only.',
    )
    learn_rates: bool = checks.setting(
        False,
        'Whether to learn inner rates (Meta-SGD). They start at those of model.init if these have '
        'the same shapes, otherwise at inner.rate; see inner.rates_per and inner.scale_batches.',
    )
    rates_per: Literal['tensor', 'element', 'step', 'step_element'] = checks.setting(
        'tensor',
        'Which parts have separate inner rates: tensor (one rate for each tensor), element (one '
        'for each element of a tensor), step (one for each tensor and inner step), or step_element '
        '(one for each element and inner step).',
    )
    scale_batches: int = checks.setting(
        0,
        'Number of batches on which the sizes of inner gradients are measured before the first '
        'outer step. All learned rates then start at inner.rate divided by the size of their '
        'gradient. 0 switches this off.',
        least=0,
    )
    max_rate: float = checks.setting(1e-2, 'Upper bound of the learned inner rates.', least=0)
    order: Literal['exact', 'first', 'reptile'] = checks.setting(
        'exact',
        'Meta-gradient: exact, first for the first-order approximation of MAML, or reptile.',
    )
    mode: Literal['mixed', 'reverse'] = checks.setting(
        'mixed',
        'How the exact meta-gradient is computed, with the same result: mixed differentiates the '
        'inner gradient in forward-over-reverse mode, reverse in reverse mode.',
    )
    remat: bool | None = checks.setting(
        None,
        'Whether to recompute each inner step in the backward pass, which saves memory; None '
        'chooses by mode and number of steps. The result is the same.',
    )
    unroll: int = checks.setting(
        0,
        'Number of inner steps in one iteration of the compiled loop; 0 chooses by backend. The '
        'result is the same.',
        least=0,
    )


@dataclasses.dataclass(frozen=True)
class OuterConfig:
    """The outer step, which moves the initialization."""

    devices: int = checks.setting(
        0, 'Number of devices that share the styles; 0 uses all.', least=0
    )
    styles: int = checks.setting(4, 'Number of styles in one outer step.', least=1)
    contents: int = checks.setting(
        4, 'Number of content images for each style and each inner step.', least=1
    )
    optimizer: Literal['adam', 'sgd'] = checks.setting('adam', 'The outer optimizer.')
    rate: float = checks.setting(1e-3, 'Rate η of the outer optimizer.', above=0)
    rates_speed: float = checks.setting(
        1.0, 'Factor on the outer rate for the logarithms of learned inner rates.', least=0
    )
    freeze_theta: bool = checks.setting(
        False,
        'Whether θ stays unchanged, so that only inner rates or the predictor are learned.',
    )
    schedule: Literal['inverse', 'cosine'] = checks.setting(
        'inverse',
        'Decay of both rates: inverse divides them by 1 + outer.decay·step, cosine lowers them to '
        '1/20 at the last step.',
    )
    decay: float = checks.setting(2.5e-5, 'Decay of the inverse schedule.', least=0)
    norms_rate: float = checks.setting(
        0.0,
        'Without inner steps: learning rate of instance norms of each training style; 0: none.',
        least=0,
    )
    predictor_rate: float = checks.setting(
        0.0,
        'Rate of the predictor of instance norms; 0 leaves it unchanged. With inner steps, its '
        'gradient goes through them.',
        least=0,
    )
    warmup: float = checks.setting(
        0.0,
        'Number of first steps in which the outer rate grows linearly to its full value.',
        least=0,
    )
    clip: float = checks.setting(
        10.0, 'Largest global norm of the outer gradient; 0 switches clipping off.', least=0
    )
    log_loss: bool = checks.setting(
        False,
        'Whether to minimize the logarithm of the outer loss, which gives styles with small and '
        'large losses the same influence.',
    )
    each_step: bool = checks.setting(
        False,
        'Whether the outer loss is the mean of the losses after each inner step, instead of the '
        'loss after the last one.',
    )
    start_weight: float = checks.setting(
        0.0, 'Share of the loss before the first inner step in the outer loss.', least=0, below=1
    )
    keep_norms: bool = checks.setting(
        False,
        'Whether convolution kernels that an instance norm follows keep their length. The length '
        'changes no output, but the longer a kernel, the less a step of adaptation turns it.',
    )


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """What a run logs."""

    every: int = checks.setting(100, 'Number of steps between two lines of the log.', least=1)
    pictures: int = checks.setting(
        1000, 'Number of steps between two sample pictures; 0 makes none.', least=0
    )


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """Which checkpoints a run writes and keeps."""

    every: int = checks.setting(1000, 'Number of steps between two checkpoints.', least=1)
    keep: int = checks.setting(
        3, 'Number of latest checkpoints that are kept, besides the best one.', least=1
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The whole configuration of a training run."""

    seed: int = checks.setting(0, 'Seed of all random numbers.', least=0)
    steps: int = checks.setting(100_000, 'Number of outer steps.', least=1)
    recipe: str = checks.setting(
        '',
        'Python module that says what is trained, such as metastyle_jax.baselines.adain; if empty, '
        'the initialization of MetaStyle.',
    )
    recipe_options: tuple[str, ...] = checks.setting(
        (), 'Options of the recipe, each written as NAME=VALUE.'
    )
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    inner: InnerConfig = InnerConfig()
    outer: OuterConfig = OuterConfig()
    log: LogConfig = LogConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()


def _entries(section: Any, prefix: str = '') -> Iterator[ConfigEntry]:
    """Yields the entries of a section and of the sections in it."""
    for field in dataclasses.fields(section):
        name = prefix + field.name
        if dataclasses.is_dataclass(field.type):
            yield from _entries(field.type, f'{name}.')
        else:
            yield ConfigEntry(name, field)


ENTRIES = {entry.name: entry for entry in _entries(TrainConfig)}
