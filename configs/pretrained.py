"""The recipe of the θ that ships, in six stages.

First plain training on all styles at once (`:plain`, T = 0), then exact meta-gradients through five
SGD steps at learned rates (`:meta`), then all styles at once again, each with instance norms of its
own (`:norms`), then with norms that a predictor, which learns with θ, gives for each (`:predict`),
the same at 256² on a GPU (`:large`), at last exact meta-gradients from predicted norms for the
inner rates, with θ all but still. Losses in logarithms, so that no style owns the gradient; lengths
of normalized kernels kept, so that adaptation's steps do not lose effect. One file in sixteen is
held out of all.

Command: bash launch/pretrain.sh PHOTOGRAPHS PAINTINGS
Hardware and result: `:large` took one NVIDIA H100 and 16 cores 5 min 15 s at 25 steps a second,
    after half a minute of start and compilation (2026-11-26; jax 0.11.2, products in TF32); the
    others two CPU cores (Intel Xeon, Sapphire Rapids; 2026-11-24 to 26) 9, 44, 85, 43 and 11
    minutes, other programs beside them for a good part, of which the third and the fourth hold
    4.5 GB. The third had 1,590 steps more than here, at about half its rate. Curves on held-out
    styles: docs/evaluation.md. `:tiny` finishes within two minutes; it takes the sample pictures of
    the pip packages.
"""

import pathlib
import runpy

from ml_collections import config_dict

_WHOLE = {'style_size': 128, 'style_fit': 'squash', 'keep_grams': 4.0}  # paintings


def get_config(arg: str = '') -> config_dict.ConfigDict:
    """The configuration; `arg` is plain|meta|norms|predict|large, '' for the last, or 'tiny'."""
    if arg not in (*_STAGES, 'tiny'):
        known = ', '.join(map(repr, (*_STAGES, 'tiny')))
        raise ValueError(
            f'unknown argument {arg!r} of the configuration: it must be one of {known}'
        )
    paper = runpy.run_path(str(pathlib.Path(__file__).with_name('coco.py')))
    config = paper['get_config']('' if arg in _STAGES else arg)
    config.data.hold_out = True
    config.outer.update(devices=1, log_loss=True, keep_norms=True)
    if arg == 'tiny':
        return config
    config.data.update(
        content='folder:data/content', style='folder:data/style', size=64, style_size=96, workers=0
    )
    config.log.update(every=50, pictures=500)
    config.checkpoint.update(every=250, keep=2)
    _STAGES[arg](config)
    return config


def _plain(config: config_dict.ConfigDict) -> None:
    config.steps = 1309
    config.inner.steps = 0
    config.outer.update(styles=4, contents=1, rate=1e-3, decay=5e-4, warmup=50, clip=1.0)


def _meta(config: config_dict.ConfigDict) -> None:
    config.steps = 1236
    config.model.init = 'runs/plain'
    config.inner.update(
        steps=5, rate=5e-3, optimizer='sgd', log_loss=True, learn_rates=True, max_rate=0.1
    )
    config.outer.update(
        styles=1, contents=2, rate=3e-4, rates_speed=30.0, decay=5e-4, warmup=20, clip=1.0
    )


def _norms(config: config_dict.ConfigDict) -> None:
    config.steps = 8000
    config.model.init = 'runs/meta'
    config.inner.steps = 0
    config.data.update(_WHOLE)
    config.outer.update(
        styles=4, contents=1, rate=8e-4, norms_rate=0.03, schedule='cosine', warmup=50, clip=1.0
    )


def _predict(config: config_dict.ConfigDict) -> None:
    config.steps = 6000
    config.model.update(init='runs/norms', predictor=True)
    config.inner.steps = 0
    config.data.update(_WHOLE)
    config.outer.update(
        styles=4, contents=1, rate=5e-4, predictor_rate=1e-3, schedule='cosine', warmup=50, clip=1.0
    )


def _large(config: config_dict.ConfigDict) -> None:
    _predict(config)
    config.steps = 8000
    config.model.init = 'runs/predict'
    config.data.update(size=256, style_size=256, workers=15)
    config.outer.update(styles=16, rate=1e-3, warmup=200)
    config.log.update(every=100, pictures=0)
    config.checkpoint.update(every=1000)


def _last(config: config_dict.ConfigDict) -> None:
    _meta(config)
    config.steps = 250
    config.model.update(init='runs/large', predictor=True)
    config.data.update(_WHOLE, style_size=256)
    config.outer.update(rate=3e-6, rates_speed=3000.0, schedule='cosine')


_STAGES = {
    'plain': _plain,
    'meta': _meta,
    'norms': _norms,
    'predict': _predict,
    'large': _large,
    '': _last,
}
