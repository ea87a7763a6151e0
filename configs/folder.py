"""Meta-training on two folders of one's own.

Command: metastyle-train --config=configs/folder.py --workdir=runs/mine \
    --config.data.content=folder:photos --config.data.style=folder:paintings
Hardware and result: not measured yet. Sized for a small GPU: 256², one style a step, only
    instance-norm parameters inside. `:tiny` finishes within a minute on two CPU cores.
"""

import pathlib
import runpy

from ml_collections import config_dict


def get_config(arg: str = '') -> config_dict.ConfigDict:
    """The configuration; `arg` is '' or 'tiny'."""
    paper = runpy.run_path(str(pathlib.Path(__file__).with_name('coco.py')))
    config = paper['get_config'](arg)
    if arg != 'tiny':
        config.steps = 20_000
        config.data.update(content='folder:data/photos', style='folder:data/paintings', workers=2)
        config.inner.params = 'norm'
        config.inner.rate = 1e-3
        config.outer.update(devices=1, styles=1)
        config.checkpoint.every = 500
    return config
