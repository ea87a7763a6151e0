"""Settings of short evaluations."""

import dataclasses

from adaptation_helpers import make_theta

from metastyle_jax.adaptation.config import AdaptConfig
from metastyle_jax.data import sources
from metastyle_jax.evaluation import evaluate
from metastyle_jax.evaluation.config import RANDOM, EvaluationConfig

ADAPT = AdaptConfig(steps=3, rate=1e-2, batch=2, size=32, style_size=32)
CONFIG = EvaluationConfig(adapt=ADAPT, random_steps=2, gatys=2, quality=False)


def changed_config(**settings):
    """`CONFIG` with other settings, of the evaluation or of its adaptations."""
    adapt = {name: value for name, value in settings.items() if hasattr(ADAPT, name)}
    own = {name: value for name, value in settings.items() if name not in adapt}
    return dataclasses.replace(CONFIG, adapt=dataclasses.replace(ADAPT, **adapt), **own)


def continue_evaluation(folder, network, starts=None, styles=3, **changes):
    """Runs the evaluation of the fixture `evaluated` again, with more styles or other settings."""
    config = changed_config(**{'matching': True, **changes})
    return evaluate.evaluate(
        starts or {'ours': make_theta(0), RANDOM: make_theta(1)},
        sources.open_source(f'folder:{folder}/photos', kind='content'),
        sources.open_source(f'folder:{folder}/paintings', kind='style'),
        held_out=2,
        styles=styles,
        config=config,
        folder=folder,
        vgg_params=network,
    )
