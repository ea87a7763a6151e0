"""Suggests the correct flag for a flag that does not exist.

The table lists names that other programs use for the same flags.
"""

import difflib
from collections.abc import Collection

_OUTPUT = ('output', 'out', 'workdir')
_INPUT = ('input', 'style')
_STYLE = ('style', 'theta')
_STEPS = ('steps', 'iterations')
_COLOURS = ('keep_colours', 'match_colours')
_SIZE = ('max_size', 'size', 'cell', 'frame_size')
# A word of other programs -> the flags that mean it; the first one that the command has counts.
_MEANT = {
    **dict.fromkeys(
        ('out', 'output', 'o', 'target', 'dest', 'destination', 'result', 'save', 'outfile',
         'outdir', 'out_dir', 'output_dir', 'output_path', 'output_file', 'output_image', 'to'),
        _OUTPUT,
    ),
    **dict.fromkeys(
        ('input', 'in', 'i', 'content', 'photo', 'photos', 'photograph', 'picture', 'image',
         'images', 'source', 'src', 'file', 'video', 'content_image', 'input_image', 'img',
         'content_path', 'content_file', 'input_file', 'input_path', 'input_dir'),
        _INPUT,
    ),
    **dict.fromkeys(
        ('style', 'styles', 's', 'style_image', 'style_file', 'style_path', 'painting', 'art',
         'artwork', 'model', 'library', 'paintings', 'style_img'),
        _STYLE,
    ),
    **dict.fromkeys(('size', 'width', 'height', 'resolution', 'resize', 'image_size'), _SIZE),
    **dict.fromkeys(
        ('keep_colors', 'keep_color', 'keep_colour', 'preserve_color', 'preserve_colors',
         'preserve_colours', 'original_colors', 'original_colours', 'color', 'colors'),
        _COLOURS,
    ),
    **dict.fromkeys(('alpha', 'intensity', 'amount', 'style_strength'), ('strength',)),
    **dict.fromkeys(
        ('steps', 'iterations', 'iters', 'epochs', 'num_steps', 'max_steps', 'n_steps', 'max_iter'),
        _STEPS,
    ),
    **dict.fromkeys(('lr', 'learning_rate'), ('rate',)),
    **dict.fromkeys(('force', 'replace', 'yes', 'y', 'f', 'clobber'), ('overwrite',)),
    **dict.fromkeys(('continue', 'restart', 'skip_done'), ('resume',)),
    **dict.fromkeys(('skip', 'no_clobber', 'ignore_existing'), ('skip_existing',)),
    **dict.fromkeys(('batch_size',), ('batch', 'styles_at_once')),
    **dict.fromkeys(('gpu', 'gpus', 'device'), ('devices',)),
    **dict.fromkeys(('init', 'initialization', 'checkpoint', 'weights_file'), ('theta',)),
}  # fmt: skip


def meant_flag(name: str, known: Collection[str]) -> str:
    """Returns the flag that a user most likely means by an unknown flag; '' if none is similar.

    Args:
        name: the unknown flag, without leading dashes.
        known: the flags of the command.
    """
    name = name.replace('-', '_').casefold()
    if name in known:
        return name
    for meant in _MEANT.get(name, ()):
        if meant in known:
            return meant
    return next(iter(difflib.get_close_matches(name, known, n=1)), '')
