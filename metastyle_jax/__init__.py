"""Meta-learned style transfer with exact second-order meta-gradients, in JAX.

import metastyle_jax
style = metastyle_jax.adapt('painting.jpg')
image = metastyle_jax.stylize(style, 'photo.jpg')
found = metastyle_jax.meta_gradient(meta, inner_batches, outer_batch, inner_loss=loss)
"""

import importlib
import sys
import types as _types

from metastyle_jax._version import __version__

# Public name: module that defines it. Imported on first use, so that `python -m` of one of the
# modules runs it once and starts quickly.
_EXPORTS = {
    'Meta': 'meta',
    'MetaGradient': 'meta',
    'UserError': 'types',
    'adapt': 'adapt',
    'adapt_many': 'many',
    'export_style': 'export',
    'initial_rates': 'meta',
    'inner_loop': 'meta',
    'mean_over_tasks': 'meta',
    'meta_gradient': 'meta',
    'reptile_gradient': 'meta',
    'stylize': 'stylize',
    'stylize_batch': 'stylize',
}

__all__ = ['__version__', *_EXPORTS]  # noqa: PLE0604


def __getattr__(name: str):
    if name not in _EXPORTS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module = importlib.import_module(f'{__name__}.{_EXPORTS[name]}')
    return getattr(module, name)


def __dir__():
    return sorted(__all__)


class _Package(_types.ModuleType):
    """Keeps `metastyle_jax.adapt` the function once the module of that name is imported."""

    def __setattr__(self, name, value):
        if _EXPORTS.get(name) == name and isinstance(value, _types.ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
