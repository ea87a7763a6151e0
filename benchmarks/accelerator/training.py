"""The training runs of the list: commands that resume, in the order of their use.

Each run is an item of the side 'command'. It may take several calls of this program: at its limit
it gets SIGTERM, saves a checkpoint, and the next call continues it.
"""

import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from benchmarks.accelerator import items

_BASELINES = ('adain', 'wct', 'avatar-net', 'style-swap', 'meta-networks')
_TINY_EVALUATION = (
    '--steps=2', '--random_steps=2', '--styles=1', '--contents=1', '--size=32', '--style_size=32',
    '--batch=1', '--inner_steps=0', '--noquality',
)  # fmt: skip


class Data(NamedTuple):
    """Where the runs find their images.

    Attributes:
        content: data source of the photographs.
        style: data source of the paintings.
        theta: the initialization from which the first run continues; the package's own by default.
    """

    content: str
    style: str
    theta: str


def runs(data: Data, out: pathlib.Path, *, small: bool = False) -> list[items.Item]:
    """Returns the training runs.

    Args:
        data: sources of images.
        out: folder of the runs.
        small: whether to train tiny networks on sample pictures for a few steps.
    """
    train = _small_training if small else _training(data)
    evaluate = _evaluation(data, small=small)
    folder = {name: str(out / name) for name in ('large', 'last', 'curves', 'johnson', 'coco')}
    found = [
        train(2, 'all styles at once at 256²', 'pretrained.py:large', folder['large'], data.theta),
        train(2, 'exact stage', 'pretrained.py', folder['last'], folder['large']),
        evaluate(
            2, 'curves of the exact stage', folder['curves'], f'best={folder["last"]}',
            '--styles=25', '--steps=200', '--random_steps=1000',
        ),
        evaluate(
            3, 'Johnson et al. for 10,000 steps', folder['johnson'], '',
            '--styles=10', '--steps=100', '--random_steps=10000',
        ),
    ]  # fmt: skip
    for name in _BASELINES:
        found.append(train(4, name, f'baselines.py:{name}', str(out / name), ''))
    found.append(train(5, "the paper's recipe", 'coco.py', folder['coco'], ''))
    found.append(
        evaluate(
            5, "curves of the paper's recipe", str(out / 'coco-curves'),
            f'paper={folder["coco"]}', '--styles=25', '--steps=200', '--random_steps=0',
        )
    )  # fmt: skip
    return found


def _training(data: Data) -> Callable[..., items.Item]:
    """Returns a function that makes the item of one run of `metastyle train`."""

    def train(part: int, name: str, config: str, workdir: str, init: str) -> items.Item:
        words = [
            'metastyle_jax.train', f'--config=configs/{config}', f'--workdir={workdir}',
            f'--config.data.content={data.content}', f'--config.data.style={data.style}',
        ]  # fmt: skip
        return _item(part, name, words + ([f'--config.model.init={init}'] if init else []))

    return train


def _small_training(part: int, name: str, config: str, workdir: str, init: str) -> items.Item:
    """Makes the item of the tiny form of a run; it always starts from random parameters."""
    del init
    file, _, argument = config.partition(':')
    tiny = f'{argument}-tiny' if file == 'baselines.py' else 'tiny'
    words = ['metastyle_jax.train', f'--config=configs/{file}:{tiny}', f'--workdir={workdir}']
    return _item(part, name, words)


def _evaluation(data: Data, *, small: bool) -> Callable[..., items.Item]:
    """Returns a function that makes the item of one run of `metastyle evaluate`."""

    def evaluate(part: int, name: str, workdir: str, theta: str, *flags: str) -> items.Item:
        words = ['metastyle_jax.evaluate', f'--workdir={workdir}']
        if small:
            # θ of the package: a tiny network would need the same random network for comparison.
            return _item(part, name, [*words, *_TINY_EVALUATION])
        words += [f'--content={data.content}', f'--style={data.style}', '--held_out']
        words += ['--pool=1024', '--contents=8', '--size=256', '--style_size=256', '--batch=2']
        return _item(part, name, [*words, *flags, *([f'--theta={theta}'] if theta else [])])

    return evaluate


def _item(part: int, name: str, words: Sequence[str]) -> items.Item:
    settings = {'command': [sys.executable, '-m', *words]}
    return items.Item(part, 'training', name, 'ours', 'tf32', 'command', 'run', settings)
