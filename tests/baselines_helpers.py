"""A small encoder and small trained systems for tests of the baselines."""

import helpers
import jax

from metastyle_jax.baselines import systems
from metastyle_jax.baselines.features import encoder_decoder, system_files

WIDTH = 2


def write_encoder(file, encoder='vgg16', cut='relu5_1', width=WIDTH):
    """Writes random weights of a small encoder, under this package's names."""
    layers = encoder_decoder.encoder_layers(encoder, cut, width=width)
    params = encoder_decoder.init(jax.random.key(0), layers)
    helpers.save_arrays(file, helpers.own_arrays(params))
    return params


def write_system(folder, name, options=None):
    """Writes random weights of a small system, and of its encoder; returns system and params."""
    options = options or {'encoder': 'vgg16', 'width': WIDTH}
    encoder = write_encoder(folder / 'vgg.npz')
    system = systems.get(name, **options)
    params = system.init(jax.random.key(1))
    params['encoder'] = {layer: encoder[layer] for layer in params['encoder']}
    system_files.save(
        folder / f'{name}.safetensors', name, params, options=options, dtype='float32'
    )
    return system, params


def vivid(params):
    """The same parameters, but fresh decoders no longer paint almost grey pictures."""
    named = {'': params['decoder']} if 'decoder' in params else params.get('decoders', {})
    for decoder in named.values():
        last = decoder['out' if 'out' in decoder else 'conv1_1']
        last.update(kernel=last['kernel'] / encoder_decoder._LAST_SCALE)
    return params
