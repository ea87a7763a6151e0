"""What a configuration of `configs/` must hold, and what of it a run that goes on may change."""

import functools
import pathlib
import sys
from typing import Any, NamedTuple

import jax.numpy as jnp

from metastyle_jax import meta
from metastyle_jax.core.errors import UserError
from metastyle_jax.models import transformer
from metastyle_jax.storage import run_folder
from metastyle_jax.training import optimizers

ORDERS = (*meta.ORDERS, 'reptile')
# A run may be resumed with other values of these; all else would make it another run.
MAY_DIFFER = ('steps', 'log', 'checkpoint', 'data.workers', 'data.tfds_dir', 'outer.devices')


class Entry(NamedTuple):
    """What an entry must be; a command line is held to the types of the file, a file to nothing."""

    kind: Any
    noun: str
    least: float | None = None
    most: float | None = None
    above: bool = False  # whether it must exceed zero


def _whole(least: int, most: int | None = None) -> Entry:
    return Entry(int, 'a whole number', least, most)


def _number(*, above: bool = False) -> Entry:
    return Entry(int | float, 'a number', 0, above=above)


_TEXT = Entry(str, 'a text')
_SWITCH = Entry(bool, 'True or False')
_WORDS = Entry(tuple | list, 'a tuple of texts')
ENTRIES = {
    'seed': _whole(0),
    'steps': _whole(1),
    'model.width': _whole(1),
    'model.blocks': _whole(1, 1000),  # more would be traced for hours
    'model.init': _TEXT,
    'model.predictor': _SWITCH,
    'data.content': _TEXT,
    'data.style': _TEXT,
    'data.content_exclude': _WORDS,
    'data.style_exclude': _WORDS,
    'data.hold_out': _SWITCH,
    'data.tfds_dir': _TEXT,
    'data.val_fraction': Entry(int | float, 'a number'),
    'data.size': _whole(16),
    'data.style_size': _whole(16),
    'data.style_fit': _TEXT,
    'data.keep_grams': _number(),
    'data.workers': _whole(0),
    'loss.content_weight': _number(),
    'loss.style_weight': _number(),
    'inner.steps': _whole(0),
    'inner.rate': _number(above=True),
    'inner.optimizer': _TEXT,
    'inner.log_loss': _SWITCH,
    'inner.eps_root': _number(),
    'inner.params': _TEXT,
    'inner.learn_rates': _SWITCH,
    'inner.max_rate': _number(),
    'inner.order': _TEXT,
    'inner.mode': _TEXT,
    'inner.remat': Entry(bool | None, 'True, False or None'),
    'inner.unroll': _whole(0),
    'outer.devices': _whole(0),
    'outer.styles': _whole(1),
    'outer.contents': _whole(1),
    'outer.optimizer': _TEXT,
    'outer.rate': _number(above=True),
    'outer.rates_speed': _number(),
    'outer.schedule': _TEXT,
    'outer.decay': _number(),
    'outer.norms_rate': _number(),
    'outer.predictor_rate': _number(),
    'outer.warmup': _number(),
    'outer.clip': _number(),
    'outer.log_loss': _SWITCH,
    'outer.keep_norms': _SWITCH,
    'log.every': _whole(1),
    'log.pictures': _whole(0),
    'checkpoint.every': _whole(1),
    'checkpoint.keep': _whole(1),
}


def check(config: Any) -> None:
    """Refuses values that no training can work with.

    Args:
        config: see `configs/`.

    Raises:
        UserError: an entry is missing, of another type or out of range, or two do not go together.
    """
    for name, entry in ENTRIES.items():
        _check_entry(name, _value(config, name), entry)
    try:
        transformer.adapted(config.inner.params)
    except UserError as error:
        raise UserError(f'config.inner.{error}') from error
    check_inner(config)
    if config.data.keep_grams and config.data.style_fit != 'squash':
        raise UserError(
            f'config.data.keep_grams={config.data.keep_grams} keeps what belongs to the pixels of '
            f'a style, and config.data.style_fit={config.data.style_fit!r} cuts others each time: '
            "set config.data.style_fit='squash', or keep_grams=0"
        )


def _check_entry(name: str, value: Any, entry: Entry) -> None:
    """Raises UserError where a value is not what its entry must be."""
    if entry.least is not None:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        least = 'above zero' if entry.above else f'at least {entry.least}'
        # A whole number may exceed all floats.
        inside = number and entry.least <= value <= sys.float_info.max
        if not inside or (entry.above and not value > 0):
            raise UserError(f'config.{name}={value}: it must be {least}, and finite')
        if entry.most is not None and value > entry.most:
            raise UserError(f'config.{name}={value}: it must be at most {entry.most}')
    texts = value if entry is _WORDS and isinstance(value, tuple | list) else ()
    if not isinstance(value, entry.kind) or not all(isinstance(text, str) for text in texts):
        raise UserError(f'config.{name}={value!r}: it must be {entry.noun}')


def _value(config: Any, name: str) -> Any:
    """An entry of a configuration by its dotted name."""
    try:
        return functools.reduce(getattr, name.split('.'), config)
    except AttributeError as error:
        raise UserError(f'the configuration has no entry {name}: see configs/coco.py') from error


def check_inner(config: Any) -> None:
    """Raises UserError for settings that the inner loop cannot work with."""
    optimizers.inner_of(config, jnp.zeros((), jnp.int32))
    inner = config.inner
    if inner.optimizer == 'adam' and not inner.eps_root > 0:
        raise UserError('config.inner.eps_root=0: second derivatives of Adam need it above zero')
    if inner.learn_rates and not inner.rate <= inner.max_rate:
        raise UserError(
            f'config.inner.rate={inner.rate} is above its bound, config.inner.max_rate='
            f'{inner.max_rate}'
        )
    optimizers.outer(config)
    optimizers.decay(config, jnp.zeros((), jnp.int32))
    for name in ('norms_rate', 'predictor_rate'):
        if config.outer[name] and inner.steps:
            raise UserError(
                f'config.outer.{name}={config.outer[name]} gives each style norms of its own '
                f'instead of an inner loop, and config.inner.steps is {inner.steps}: set one to 0'
            )
        if config.outer[name] and inner.learn_rates:
            raise UserError(
                f'config.outer.{name}={config.outer[name]} trains without an inner loop, which '
                'config.inner.learn_rates=True would learn rates for: set it to False'
            )
    if inner.learn_rates and not inner.steps:
        raise UserError(
            'config.inner.learn_rates=True learns rates of inner steps, and config.inner.steps=0 '
            'leaves none: set it to 1 or more, or learn_rates to False'
        )
    if config.outer.predictor_rate and not config.model.predictor:
        raise UserError(
            f'config.outer.predictor_rate={config.outer.predictor_rate} trains a predictor, and '
            'there is none: set config.model.predictor=True'
        )
    if inner.order == 'reptile' and not inner.steps:
        raise UserError(
            "config.inner.order='reptile' goes the way of the inner loop, and config.inner.steps=0 "
            'leaves none: set it to 1 or more'
        )
    if inner.order == 'reptile' and inner.learn_rates:
        raise UserError(
            "config.inner.order='reptile' learns no rates: set config.inner.learn_rates=False"
        )
    for name, known in {'order': ORDERS, 'mode': meta.MODES}.items():
        if config.inner[name] not in known:
            raise UserError(
                f'config.inner.{name}={config.inner[name]!r}: it must be one of {", ".join(known)}'
            )


def may_differ(config: Any, folder: pathlib.Path) -> tuple[str, ...]:
    """Entries that may be other ones than those that the run in a folder began with."""
    known = set(MAY_DIFFER)
    if config.outer.schedule == 'cosine':  # which ends at the last step
        known.remove('steps')
    before = (run_folder.read_config(folder) or {}).get('data', {})
    if config.data.keep_grams and isinstance(before, dict) and before.get('keep_grams'):
        known.add('data.keep_grams')  # how much is kept changes no number
    return tuple(sorted(known))
