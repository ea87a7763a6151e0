"""The schema of the training configuration: each entry's type, default, range and meaning.

The defaults are the values of the paper (Zhang, Zhu and Zhu 2019, arXiv 1812.05233), so a
configuration file lists only the entries that differ. The checks, the flags ``--config.NAME`` and
the table in the documentation are all derived from this schema.

This module imports nothing heavy, so that ``metastyle-train --help`` answers quickly.
"""

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple


class Bounds(NamedTuple):
    """Range of a number; None means that there is no bound on that side.

    Attributes:
        least: smallest allowed value.
        above: value that must be exceeded.
        below: value that must not be reached.
        most: largest allowed value.
    """

    least: float | None = None
    above: float | None = None
    below: float | None = None
    most: float | None = None


class ConfigEntry(NamedTuple):
    """One entry of the configuration.

    Attributes:
        name: dotted name, such as 'inner.steps'.
        kind: type of the value: int, float, bool, str, ``bool | None``, ``tuple[str, ...]`` or a
            Literal of texts.
        default: value of the paper, or the value that switches an addition to the paper off.
        meaning: one sentence.
        bounds: range of a number.
    """

    name: str
    kind: Any
    default: Any
    meaning: str
    bounds: Bounds

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed texts; empty if any text is allowed."""
        return typing.get_args(self.kind) if typing.get_origin(self.kind) is Literal else ()


def _entry(default: Any, meaning: str, **bounds: float) -> Any:
    """A dataclass field with a meaning and a range."""
    metadata = {'meaning': meaning, 'bounds': Bounds(**bounds)}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The style transformer."""

    width: int = _entry(32, 'Number of channels of the first convolution.', least=1)
    # Tracing more than 1000 blocks would take hours.
    blocks: int = _entry(5, 'Number of residual blocks.', least=1, most=1000)
    init: str = _entry(
        '',
        'Initialization to start from: the folder of a run or a .safetensors file. Random '
        'parameters if empty.',
    )
    predictor: bool = _entry(
        False,
        'Whether a small network predicts, from the Gram matrices of a style, the instance norms '
        'that this style starts from.',
    )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Content images and style images."""

    content: str = _entry(
        'tfds:coco/2017:train',
        'Source of the content images: sample:, folder:PATH or tfds:NAME[/CONFIG][:SPLIT].',
    )
    style: str = _entry(
        'folder:data/wikiart', 'Source of the style images, written like data.content.'
    )
    content_exclude: tuple[str, ...] = _entry(
        (), 'Content images whose names contain one of these words are left out.'
    )
    style_exclude: tuple[str, ...] = _entry(
        (), 'Style images whose names contain one of these words are left out.'
    )
    hold_out: bool = _entry(
        False,
        'Whether to leave out one image in sixteen, chosen by the hash of its name, for '
        'metastyle-evaluate --held_out.',
    )
    tfds_dir: str = _entry(
        '',
        'Folder of the data sets of TensorFlow Datasets. If empty, $TFDS_DATA_DIR or '
        '~/tensorflow_datasets.',
    )
    val_fraction: float = _entry(
        0.1, 'Share of the content images that only the outer loss uses (D_val).', above=0, below=1
    )
    size: int = _entry(256, 'Height and width of the content images in pixels.', least=16)
    style_size: int = _entry(256, 'Height and width of the style images in pixels.', least=16)
    style_fit: Literal['crop', 'squash'] = _entry(
        'crop',
        'How a style image becomes square: crop takes a random square of it, squash resizes the '
        'whole image.',
    )
    keep_grams: float = _entry(
        0.0,
        'Memory in GiB that keeps Gram matrices of style images from one epoch to the next; 0 '
        'keeps none. It needs data.style_fit=squash.',
        least=0,
    )
    workers: int = _entry(
        8,
        'Number of processes that decode images; 0 decodes in threads of the main process.',
        least=0,
    )


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the perceptual loss."""

    content_weight: float = _entry(1.0, 'Weight of the content loss.', least=0)
    style_weight: float = _entry(1e5, 'Weight of the style loss.', least=0)


@dataclasses.dataclass(frozen=True)
class InnerConfig:
    """The inner loop, which adapts the initialization to one style."""

    steps: int = _entry(
        1, 'Number T of inner steps; 0 trains plainly on all styles at once.', least=0
    )
    rate: float = _entry(1e-4, 'Rate δ of the inner optimizer.', above=0)
    optimizer: Literal['sgd', 'momentum', 'adam'] = _entry('sgd', 'The inner optimizer.')
    log_loss: bool = _entry(
        False,
        'Whether the inner loop minimizes the logarithm of the loss, whose gradients have a '
        'similar size for all styles.',
    )
    eps_root: float = _entry(
        1e-8, 'eps_root of an inner Adam; its second derivatives are finite only above 0.', least=0
    )
    params: Literal['all', 'norm'] = _entry(
        'all',
        'Parameters that the inner loop adapts: all, or norm for the scales and biases of instance '
        'norms only.',
    )
    learn_rates: bool = _entry(
        False,
        'Whether to learn one inner rate for each tensor, starting from inner.rate (Meta-SGD).',
    )
    max_rate: float = _entry(1e-2, 'Upper bound of the learned inner rates.', least=0)
    order: Literal['exact', 'first', 'reptile'] = _entry(
        'exact',
        'Meta-gradient: exact, first for the first-order approximation of MAML, or reptile.',
    )
    mode: Literal['mixed', 'reverse'] = _entry(
        'mixed',
        'How the exact meta-gradient is computed: by forward-over-reverse or by reverse-mode '
        'differentiation of the inner gradient. The result is the same.',
    )
    remat: bool | None = _entry(
        None,
        'Whether to recompute each inner step in the backward pass, which saves memory; None '
        'chooses by mode and number of steps. The result is the same.',
    )
    unroll: int = _entry(
        0,
        'Number of inner steps in one iteration of the compiled loop; 0 chooses by backend. The '
        'result is the same.',
        least=0,
    )


@dataclasses.dataclass(frozen=True)
class OuterConfig:
    """The outer step, which moves the initialization."""

    devices: int = _entry(0, 'Number of devices that share the styles; 0 uses all.', least=0)
    styles: int = _entry(4, 'Number of styles in one outer step.', least=1)
    contents: int = _entry(
        4, 'Number of content images for each style and each inner step.', least=1
    )
    optimizer: Literal['adam', 'sgd'] = _entry('adam', 'The outer optimizer.')
    rate: float = _entry(1e-3, 'Rate η of the outer optimizer.', above=0)
    rates_speed: float = _entry(
        1.0, 'Factor on the outer rate for the logarithms of learned inner rates.', least=0
    )
    schedule: Literal['inverse', 'cosine'] = _entry(
        'inverse',
        'Decay of both rates: inverse divides them by 1 + outer.decay·step, cosine lowers them to '
        '1/20 at the last step.',
    )
    decay: float = _entry(2.5e-5, 'Decay of the inverse schedule.', least=0)
    norms_rate: float = _entry(
        0.0,
        'Without inner steps: rate at which each training style learns instance norms of its own; '
        '0 switches them off.',
        least=0,
    )
    predictor_rate: float = _entry(
        0.0,
        'Without inner steps: rate of the predictor of instance norms; 0 leaves it unchanged.',
        least=0,
    )
    warmup: float = _entry(
        0.0,
        'Number of first steps in which the outer rate grows linearly to its full value.',
        least=0,
    )
    clip: float = _entry(
        10.0, 'Largest global norm of the outer gradient; 0 switches clipping off.', least=0
    )
    log_loss: bool = _entry(
        False,
        'Whether to minimize the logarithm of the outer loss, which gives styles with small and '
        'large losses the same influence.',
    )
    keep_norms: bool = _entry(
        False,
        'Whether convolution kernels that an instance norm follows keep their length. The length '
        'changes no output, but the longer a kernel, the less a step of adaptation turns it.',
    )


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """What a run logs."""

    every: int = _entry(100, 'Number of steps between two lines of the log.', least=1)
    pictures: int = _entry(
        1000, 'Number of steps between two sample pictures; 0 makes none.', least=0
    )


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """Which checkpoints a run writes and keeps."""

    every: int = _entry(1000, 'Number of steps between two checkpoints.', least=1)
    keep: int = _entry(
        3, 'Number of latest checkpoints that are kept, besides the best one.', least=1
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """The whole configuration of a training run."""

    seed: int = _entry(0, 'Seed of all random numbers.', least=0)
    steps: int = _entry(100_000, 'Number of outer steps.', least=1)
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    inner: InnerConfig = InnerConfig()
    outer: OuterConfig = OuterConfig()
    log: LogConfig = LogConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()


def _entries(section: type, prefix: str = '') -> Iterator[ConfigEntry]:
    """The entries of a section and of the sections in it."""
    kinds = typing.get_type_hints(section)
    for field in dataclasses.fields(section):
        name, kind = prefix + field.name, kinds[field.name]
        if dataclasses.is_dataclass(kind):
            yield from _entries(typing.cast(type, kind), f'{name}.')
        else:
            yield ConfigEntry(
                name, kind, field.default, field.metadata['meaning'], field.metadata['bounds']
            )


ENTRIES = {entry.name: entry for entry in _entries(TrainConfig)}


def type_in_words(kind: Any) -> str:
    """Describes a type of the schema to users."""
    if typing.get_origin(kind) is Literal:
        return f'one of {", ".join(typing.get_args(kind))}'
    return _NOUNS[kind]


_NOUNS = {
    int: 'a whole number',
    float: 'a number',
    bool: 'True or False',
    bool | None: 'True, False or None',
    str: 'a text',
    tuple[str, ...]: 'a tuple of texts',
}
