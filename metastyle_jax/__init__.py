"""Meta-learned style transfer with exact second-order meta-gradients, in JAX.

import metastyle_jax
image = metastyle_jax.stylize('painting.jpg', 'photo.jpg')
style = metastyle_jax.adapt('painting.jpg')
image = metastyle_jax.stylize(style, 'photo.jpg')
found = metastyle_jax.meta_gradient(meta, inner_batches, outer_batch, inner_loss=loss)
"""

import importlib
from typing import Any

from metastyle_jax._version import __version__

# Public name: module that defines it. Imported on first use, so that a command loads only what it
# needs.
_MODULES = {
    'AdaptConfig': 'adaptation.config',
    'Inner': 'meta',
    'InstantConfig': 'instant.config',
    'Meta': 'meta',
    'MetaGradient': 'meta',
    'StyleCache': 'instant.style_cache',
    'StyleTransformer': 'models.linen.style_transformer',
    'Theta': 'storage.theta_files',
    'UserError': 'core.errors',
    'VideoSettings': 'stylization.video_settings',
    'adapt': 'adaptation.adapt',
    'adapt_many': 'adaptation.adapt_folder',
    'adapt_steps': 'adaptation.adapt',
    'animate': 'instant.stylizing',
    'draw_all_styles': 'stylization.grids',
    'draw_grid': 'instant.stylizing',
    'export_style': 'stylization.export.export_style',
    'export_web': 'stylization.export.web.export_web',
    'initial_rates': 'meta',
    'inner_loop': 'meta',
    'instant_style': 'instant.instant_style',
    'load_onnx': 'stylization.export.onnx_loading',
    'load_stablehlo': 'stylization.export.stablehlo_program',
    'load_style': 'storage.style_files',
    'load_theta': 'storage.theta_files',
    'mean_over_tasks': 'meta',
    'meta_gradient': 'meta',
    'reptile_gradient': 'meta',
    'save_style': 'storage.style_files',
    'save_theta': 'storage.theta_files',
    'stylize': 'instant.stylizing',
    'stylize_all_styles': 'stylization.grids',
    'stylize_batch': 'stylization.stylize',
    'stylize_file': 'instant.stylizing',
    'stylize_folder': 'instant.stylizing',
    'stylize_video': 'instant.stylizing',
    'train': 'training.train',
}

__all__ = [
    'AdaptConfig',
    'Inner',
    'InstantConfig',
    'Meta',
    'MetaGradient',
    'StyleCache',
    'StyleTransformer',
    'Theta',
    'UserError',
    'VideoSettings',
    '__version__',
    'adapt',
    'adapt_many',
    'adapt_steps',
    'animate',
    'draw_all_styles',
    'draw_grid',
    'export_style',
    'export_web',
    'initial_rates',
    'inner_loop',
    'instant_style',
    'load_onnx',
    'load_stablehlo',
    'load_style',
    'load_theta',
    'mean_over_tasks',
    'meta_gradient',
    'reptile_gradient',
    'save_style',
    'save_theta',
    'stylize',
    'stylize_all_styles',
    'stylize_batch',
    'stylize_file',
    'stylize_folder',
    'stylize_video',
    'train',
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    try:
        module = importlib.import_module(f'{__name__}.{_MODULES[name]}')
    except ModuleNotFoundError as error:
        raise ImportError(
            f'{__name__}.{name} needs {error.name}, which is not installed: install the whole '
            'package, for example with `pip install .` in a clone of its repository'
        ) from error
    return getattr(module, name)


def __dir__() -> list[str]:
    return list(__all__)
