"""Training of the other systems of MetaStyle's poster: decoders, and Meta Networks.

The argument is NAME: adain, wct, avatar-net, style-swap or meta-networks; no argument stands for
adain. `NAME-cpu` is a run of 6 to 30 minutes on one CPU core, which made the weights in the
package. `NAME-tiny` is a short run on sample pictures that finishes within a minute on two CPU
cores; `tiny` stands for adain-tiny.

Source: Huang and Belongie 2017, arXiv 1703.06868 (adain); Li et al. 2017, arXiv 1705.08086 (wct);
Sheng et al. 2018, arXiv 1805.03857 (avatar-net); Chen and Schmidt 2016, arXiv 1612.04337
(style-swap); Shen, Yan and Zeng 2018, arXiv 1709.04111 (meta-networks).
The encoder is VGG-16 in place of VGG-19, because the weights of VGG-16 come with a pip package.

Command: metastyle train --config=configs/baselines.py:adain --workdir=runs/adain
Data: COCO 2017 and WikiArt, as in configs/coco.py; or --config.data.content=folder:PATH.
Hardware, time and result of NAME-cpu: one core of an AMD EPYC, 2026-11-28, other programs beside
    it; wct 28 minutes, adain 13, avatar-net 6, style-swap 6, meta-networks 17 in two parts.
    docs/baselines.md has the commands in their order, docs/poster.md the result. The settings for a
    GPU have not been run to the end.
"""

from ml_collections import config_dict

# What differs from the defaults of the schema. A step has outer.styles style images with
# outer.contents contents each.
_COMMON = dict(
    inner=dict(steps=0),
    outer=dict(styles=8, contents=1, rate=1e-4, clip=0.0),
)
_SYSTEMS = {
    'adain': dict(
        steps=160_000,
        recipe='metastyle_jax.baselines.adain',
        outer=dict(decay=5e-5),
    ),
    'wct': dict(
        steps=40_000,
        recipe='metastyle_jax.baselines.wct',
        outer=dict(decay=0.0),
    ),
    'avatar-net': dict(
        steps=120_000,
        recipe='metastyle_jax.baselines.avatar_net',
        outer=dict(decay=0.0),
    ),
    'style-swap': dict(
        steps=80_000,
        recipe='metastyle_jax.baselines.style_swap',
        outer=dict(decay=0.0, rate=1e-3),
    ),
    # Small widths, see the recipe. Each step has other styles; in the paper a style stays for 20.
    'meta-networks': dict(
        steps=600_000,
        recipe='metastyle_jax.baselines.meta_networks',
        outer=dict(decay=0.0, rate=1e-3, styles=4, contents=2),
    ),
}
# Pictures of 64 x 64 pixels. The pixel loss of WCT teaches its decoders the colours within some
# hundred steps, so the decoders of the other systems start from those of WCT.
_CPU = dict(
    data=dict(
        content='folder:data/content',
        style='folder:data/style',
        hold_out=True,
        size=64,
        style_size=64,
        workers=0,
    ),
    outer=dict(devices=1, styles=4, decay=0.0, schedule='cosine', warmup=50),
    log=dict(every=100, pictures=0),
    checkpoint=dict(every=200, keep=2),
)
_FROM_WCT = dict(recipe_options=('start=runs/wct.safetensors',))
_SYSTEMS_CPU = {
    'wct': dict(
        steps=4000,
        recipe_options=('deepest=relu4_1', 'pixel_weight=200.0'),
        outer=dict(rate=3e-4, warmup=100),
    ),
    'adain': dict(_FROM_WCT, steps=1500, outer=dict(styles=6)),
    'avatar-net': dict(_FROM_WCT, steps=1000, outer=dict(rate=2e-4)),
    'style-swap': dict(_FROM_WCT, steps=1000, outer=dict(rate=3e-4)),
    'meta-networks': dict(
        steps=1500,
        recipe_options=(
            'style_weight=20.0',
            'variation_weight=1.0',
            'start=runs/meta-networks-content.safetensors',
        ),
    ),
}
_TINY = dict(
    steps=2,
    data=dict(content='sample:', style='sample:', size=32, style_size=32, workers=0),
    outer=dict(devices=1, styles=1, contents=2),
    log=dict(every=1, pictures=2),
    checkpoint=dict(every=2),
)


def get_config(arg: str = '') -> config_dict.ConfigDict:
    """Returns the entries that differ from the defaults.

    Args:
        arg: NAME, NAME-cpu, NAME-tiny, tiny or ''.
    """
    name = arg.removesuffix('tiny').removesuffix('-cpu').removesuffix('-') or 'adain'
    if name not in _SYSTEMS:
        known = ', '.join(_SYSTEMS)
        raise ValueError(
            f'unknown argument {arg!r}: it must be one of {known}, or one of them with -cpu or '
            '-tiny'
        )
    parts = [_COMMON, _SYSTEMS[name]]
    if arg.endswith('cpu'):
        parts += [_CPU, _SYSTEMS_CPU[name]]
    if arg.endswith('tiny'):
        parts.append(_TINY)
    entries: dict[str, object] = {}
    for part in parts:
        for key, value in part.items():
            before = entries.get(key)
            entries[key] = {**before, **value} if isinstance(before, dict) else value
    return config_dict.ConfigDict(entries)
