"""The recipe of the initialization that ships with the package, in six stages.

1. `:plain`: plain training on all styles at once, without inner steps.
2. `:meta`: exact meta-gradients through five SGD steps, whose rates are learned.
3. `:norms`: all styles at once again; each style has instance norms of its own.
4. `:predict`: the same, but a predictor gives each style its instance norms, and learns with θ.
5. `:large`: stage 4 at 256² on a GPU.
6. no argument: exact meta-gradients from predicted instance norms learn the rates of the first
   five steps of an adaptation, one for each element of the instance norms and each step; θ and the
   predictor do not change.

All stages minimize logarithms of losses, so that each style has the same influence, and keep the
lengths of convolution kernels that an instance norm follows, so that the steps of adaptation stay
effective. One image in sixteen is held out of all stages.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233 (stages 2 and 6); Dumoulin, Shlens and Kudlur
2017, arXiv 1610.07629 (stage 3); Ghiasi et al. 2017, arXiv 1705.06830 (stages 4 and 5).

Command: bash launch/pretrain.sh PHOTOGRAPHS PAINTINGS
Hardware and time: stage 5 took one NVIDIA H100 and 16 cores 5 min 15 s at 25 steps a second, after
    half a minute of start and compilation (2026-11-26; jax 0.11.2, products in TF32). The others
    took two CPU cores (Intel Xeon, Sapphire Rapids; 2026-11-24 to 26) 9, 44, 85 and 43 minutes, and
    stage 6 one core of an AMD EPYC (2026-11-28) 29 minutes; other programs ran beside them. Stages
    3 and 4 hold 4.5 GB of Gram matrices. Stage 3 had 1,590 steps more than here, at about half its
    rate. `:tiny` finishes within two minutes; it uses the sample pictures of the pip packages.
Result: docs/evaluation.md has the curves on held-out styles.
"""

from ml_collections import config_dict

# Style images are small enough to keep the Gram matrices of all of them in memory.
_CACHED_GRAMS = dict(style_size=128, style_fit='squash', keep_grams=4.0)
_INNER_LOOP = dict(
    steps=5, rate=5e-3, optimizer='sgd', log_loss=True, learn_rates=True, max_rate=0.1
)
_ALL_STYLES = dict(styles=4, contents=1, warmup=50, clip=1.0)
_PREDICTED = dict(predictor_rate=1e-3, schedule='cosine')

_STAGES = {
    'plain': dict(
        steps=1309,
        inner=dict(steps=0),
        outer=dict(_ALL_STYLES, rate=1e-3, decay=5e-4),
    ),
    'meta': dict(
        steps=1236,
        model=dict(init='runs/plain'),
        inner=_INNER_LOOP,
        outer=dict(
            styles=1, contents=2, rate=3e-4, rates_speed=30.0, decay=5e-4, warmup=20, clip=1.0
        ),
    ),
    'norms': dict(
        steps=8000,
        model=dict(init='runs/meta'),
        data=_CACHED_GRAMS,
        inner=dict(steps=0),
        outer=dict(_ALL_STYLES, rate=8e-4, norms_rate=0.03, schedule='cosine'),
    ),
    'predict': dict(
        steps=6000,
        model=dict(init='runs/norms', predictor=True),
        data=_CACHED_GRAMS,
        inner=dict(steps=0),
        outer=dict(_ALL_STYLES, **_PREDICTED, rate=5e-4),
    ),
    'large': dict(
        steps=8000,
        model=dict(init='runs/predict', predictor=True),
        data=dict(_CACHED_GRAMS, size=256, style_size=256, workers=15),
        inner=dict(steps=0),
        outer=dict(_ALL_STYLES | _PREDICTED, styles=16, rate=1e-3, warmup=200),
        log=dict(every=100, pictures=0),
        checkpoint=dict(every=1000),
    ),
    '': dict(
        steps=500,
        model=dict(init='runs/large', predictor=True),
        data=dict(_CACHED_GRAMS, size=128, style_size=256),
        inner=dict(
            _INNER_LOOP, params='norm', rate=0.02, scale_batches=40, rates_per='step_element',
            max_rate=30.0,
        ),
        outer=dict(
            styles=1, contents=1, each_step=True, rate=0.03, freeze_theta=True, schedule='cosine',
            warmup=20, clip=1.0,
        ),
    ),
    'tiny': dict(
        steps=4,
        model=dict(width=8, blocks=1),
        data=dict(
            content='sample:', style='sample:', size=32, style_size=32, workers=0, val_fraction=0.25
        ),
        outer=dict(styles=1, contents=2),
        log=dict(every=2, pictures=4),
        checkpoint=dict(every=2, keep=3),
    ),
}  # fmt: skip


def get_config(arg: str = '') -> config_dict.ConfigDict:
    """Returns the entries that differ from the defaults.

    Args:
        arg: plain, meta, norms, predict or large; empty for the last stage; or tiny.
    """
    if arg not in _STAGES:
        known = ', '.join(map(repr, _STAGES))
        raise ValueError(f'unknown argument {arg!r}: it must be one of {known}')
    config = config_dict.create(
        data=dict(
            content='folder:data/content',
            style='folder:data/style',
            hold_out=True,
            size=64,
            style_size=96,
            workers=0,
        ),
        outer=dict(devices=1, log_loss=True, keep_norms=True),
        log=dict(every=50, pictures=500),
        checkpoint=dict(every=250, keep=2),
    )
    config.update(_STAGES[arg])
    return config
