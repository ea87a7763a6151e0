"""Meta-training on the photographs and paintings that the pip packages carry.

It shows every part of training in some minutes on two CPU cores. Its initialization is too small
for good pictures. The painting that launch/quickstart.sh adapts to and the photographs that it
stylizes are left out.

Source: the paper's recipe (Zhang, Zhu and Zhu 2019, arXiv 1812.05233) with smaller images, fewer
steps and other rates.

Command: metastyle-train --config=configs/quickstart.py --workdir=runs/small
Hardware, time and result: two CPU cores, about 80 s including compilation. The mean outer loss
    falls from 96 in steps 1 to 5 to 57 in steps 56 to 60. `:tiny` finishes within a minute.
"""

from ml_collections import config_dict


def get_config(arg: str = '') -> config_dict.ConfigDict:
    """Returns the entries that differ from the defaults; `arg` is '' or 'tiny'."""
    if arg not in ('', 'tiny'):
        raise ValueError(f"unknown argument {arg!r}: it must be 'tiny' or absent")
    config = config_dict.create(
        data=dict(
            content='sample:',
            style='sample:',
            content_exclude=('chelsea', 'china'),
            style_exclude=('437658',),  # Seurat, Study for "A Sunday on La Grande Jatte"
            val_fraction=0.25,
            workers=0,
        ),
        outer=dict(devices=1, styles=1, contents=2),
    )
    if arg == 'tiny':
        config.update(
            steps=4,
            model=dict(width=8, blocks=1),
            data=dict(size=32, style_size=32),
            log=dict(every=2, pictures=4),
            checkpoint=dict(every=2),
        )
    else:
        config.update(
            steps=60,
            data=dict(size=64, style_size=96),
            inner=dict(rate=1e-5),  # with a larger rate the loss diverges in so few outer steps
            outer=dict(rate=1e-3, warmup=10),
            log=dict(every=5, pictures=30),
            checkpoint=dict(every=20, keep=2),
        )
    return config
