"""Meta-training on two folders of your own.

Source: the paper's recipe (Zhang, Zhu and Zhu 2019, arXiv 1812.05233), made smaller for a small
GPU: one style a step, and only the instance norms adapt in the inner loop.

Command: metastyle-train --config=configs/folder.py --workdir=runs/mine \
    --config.data.content=folder:photos --config.data.style=folder:paintings
Hardware, time and result: not measured yet. `:tiny` finishes within a minute on two CPU cores. It
    uses the sample pictures of the pip packages at 32² and a narrow network.
"""

from ml_collections import config_dict


def get_config(arg: str = '') -> config_dict.ConfigDict:
    """Returns the entries that differ from the defaults; `arg` is '' or 'tiny'."""
    if arg not in ('', 'tiny'):
        raise ValueError(f"unknown argument {arg!r}: it must be 'tiny' or absent")
    config = config_dict.create(
        steps=20_000,
        data=dict(content='folder:data/photos', style='folder:data/paintings', workers=2),
        inner=dict(params='norm', rate=1e-3),
        outer=dict(devices=1, styles=1),
        checkpoint=dict(every=500),
    )
    if arg == 'tiny':
        config.update(
            steps=4,
            model=dict(width=8, blocks=1),
            data=dict(
                content='sample:',
                style='sample:',
                size=32,
                style_size=32,
                workers=0,
                val_fraction=0.25,
            ),
            outer=dict(contents=2),
            log=dict(every=2, pictures=4),
            checkpoint=dict(every=2),
        )
    return config
