"""Paper-scale meta-training: MS-COCO content images, WikiArt style images.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233. The paper's values are the defaults of the
schema (`metastyle_jax/training/configuration/schema.py`), so nothing is listed here: 256², 4 styles
a step, 4 content images a style, one SGD step inside, Adam outside, both rates divided by
(1 + 2.5e-5·step), 100,000 steps.

Command: metastyle-train --config=configs/coco.py --workdir=runs/coco
Data: COCO 2017, prepared by TensorFlow Datasets as ArrayRecord files, and WikiArt in data/wikiart.
    The documentation of training says how to get both.
Hardware, time and result: not measured yet. `:tiny` finishes within a minute on two CPU cores. It
    uses the sample pictures of the pip packages at 32² and a narrow network.
"""

from ml_collections import config_dict


def get_config(arg: str = '') -> config_dict.ConfigDict:
    """Returns the entries that differ from the defaults; `arg` is '' or 'tiny'."""
    if arg == '':
        return config_dict.create()
    if arg == 'tiny':
        return config_dict.create(
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
            outer=dict(devices=1, styles=1, contents=2),
            log=dict(every=2, pictures=4),
            checkpoint=dict(every=2),
        )
    raise ValueError(f"unknown argument {arg!r}: it must be 'tiny' or absent")
