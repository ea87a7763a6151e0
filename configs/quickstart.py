"""Meta-training on the photographs and paintings that the pip packages carry, on two CPU cores.

Small on purpose: it shows every part at work in minutes and makes a θ to look at, not one to
keep. The painting that launch/quickstart.sh adapts to, and the photographs that it stylizes, are
left out.

Command: metastyle-train --config=configs/quickstart.py --workdir=runs/small
Hardware and result: two CPU cores, about 80 s with compilation: outer loss 96 (steps 1 to 5) to 57
    (steps 56 to 60).
"""

import pathlib
import runpy

from ml_collections import config_dict


def get_config(arg: str = '') -> config_dict.ConfigDict:
    """The configuration; `arg` is '' or 'tiny'."""
    paper = runpy.run_path(str(pathlib.Path(__file__).with_name('coco.py')))
    config = paper['get_config'](arg)
    config.data.update(
        content='sample:',
        style='sample:',
        content_exclude=('chelsea', 'china'),
        style_exclude=('437658',),  # Study for "A Sunday on La Grande Jatte"
        val_fraction=0.25,
        workers=0,
    )
    if arg != 'tiny':
        config.steps = 60
        config.inner.rate = 1e-5  # so few outer steps cannot tame larger inner ones
        config.data.update(size=64, style_size=96)
        config.outer.update(devices=1, styles=1, contents=2, rate=1e-3, warmup=10)
        config.log.update(every=5, pictures=30)
        config.checkpoint.update(every=20, keep=2)
    return config
