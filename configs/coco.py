"""Paper-scale meta-training: MS-COCO contents, WikiArt styles.

Source: Zhang, Zhu and Zhu 2019, arXiv 1812.05233: 256², 4 styles a step, 4 contents a style,
Adam outside, SGD inside, both rates divided by (1 + 2.5e-5·step).

Command: metastyle-train --config=configs/coco.py --workdir=runs/coco
Data: COCO 2017 prepared by TensorFlow Datasets as ArrayRecord, WikiArt in data/wikiart; the
    README says how to get both.
Hardware and result: not measured yet. `:tiny` finishes within a minute on two CPU cores; it
    takes the sample pictures of the pip packages, 32² and a narrow network.
"""

from ml_collections import config_dict


def get_config(arg: str = '') -> config_dict.ConfigDict:
    """The configuration; `arg` is '' or 'tiny'."""
    if arg not in ('', 'tiny'):
        raise ValueError(f"unknown argument {arg!r} of the configuration: it must be 'tiny'")
    config = config_dict.create(
        seed=0,
        steps=100_000,
        model=dict(
            width=32,
            blocks=5,
            init='',  # θ to start from: a run's folder or a .safetensors file
            predictor=False,  # norms that a style begins with are predicted from it
        ),
        data=dict(
            content='tfds:coco/2017:train',  # sample:, folder:PATH, tfds:NAME[/CONFIG][:SPLIT]
            style='folder:data/wikiart',
            content_exclude=(),  # images whose names contain one of these words stay out
            style_exclude=(),
            hold_out=False,  # leave out what `evaluate --held_out` takes: one file in sixteen
            tfds_dir='',  # default: $TFDS_DATA_DIR, else ~/tensorflow_datasets
            val_fraction=0.1,  # share of the contents in D_val
            size=256,
            style_size=256,
            style_fit='crop',  # or 'squash'
            keep_grams=0.0,  # GiB of memory for Gram matrices of styles, with 'squash'
            workers=8,  # processes that decode
        ),
        loss=dict(content_weight=1.0, style_weight=1e5),
        inner=dict(
            steps=1,  # T; 0: plain training on all styles at once
            rate=1e-4,  # δ
            optimizer='sgd',  # 'sgd', 'momentum' or 'adam'
            log_loss=False,  # descend its logarithm, whose gradients are alike in all styles
            eps_root=1e-8,  # of Adam: keeps its second derivative finite
            params='all',  # or 'norm': instance-norm scales and biases only
            learn_rates=False,  # Meta-SGD: one learned rate for each tensor
            max_rate=1e-2,  # bound of learned rates
            order='exact',  # or 'first': first-order MAML; or 'reptile'
            mode='mixed',  # or 'reverse'
            remat=config_dict.placeholder(bool),  # None: chosen by mode and T
            unroll=0,  # 0: chosen by backend
        ),
        outer=dict(
            devices=0,  # that the styles are shared out over; 0: all
            styles=4,  # a step
            contents=4,  # a style
            optimizer='adam',  # or 'sgd'
            rate=1e-3,  # η
            rates_speed=1.0,  # the logarithms of learned inner rates move so many times faster
            schedule='inverse',  # of both rates; or 'cosine', down to 1/20 at the last step
            decay=2.5e-5,  # of 'inverse': 1 / (1 + decay·step)
            norms_rate=0.0,  # with T = 0: rate of norms that each style has of its own; 0: none
            predictor_rate=0.0,  # with T = 0: rate of the predictor; 0: it stays as it is
            warmup=0,  # steps
            clip=10.0,  # global norm; 0: none
            log_loss=False,  # minimize its logarithm, so that no style owns the gradient
            keep_norms=False,  # keep the lengths of kernels that an instance norm follows
        ),
        log=dict(every=100, pictures=1000),
        checkpoint=dict(every=1000, keep=3),
    )
    if arg == 'tiny':
        config.steps = 4
        config.model.update(width=8, blocks=1)
        config.data.update(
            content='sample:', style='sample:', size=32, style_size=32, workers=0, val_fraction=0.25
        )
        config.outer.update(devices=1, styles=1, contents=2)
        config.log.update(every=2, pictures=4)
        config.checkpoint.update(every=2)
    return config
