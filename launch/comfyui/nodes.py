"""The nodes. ComfyUI's IMAGE is a torch tensor `[N, H, W, C]`, float32 in 0..1."""

import functools
import pathlib

import numpy as np

from .programs import Programs, StyleNorms, blend

CATEGORY = 'image/metastyle'
STYLE = 'METASTYLE_STYLE'  # the type of a socket: a StyleNorms
FOLDER = 'metastyle'  # below ComfyUI's models: style files


@functools.cache
def programs() -> Programs:
    """Opens the programs of this folder once."""
    return Programs(pathlib.Path(__file__).parent / 'programs')


def style_folder() -> pathlib.Path:
    """Returns the folder of ComfyUI for style files; it may be missing."""
    import folder_paths  # ComfyUI's own module

    return pathlib.Path(folder_paths.models_dir) / FOLDER


def as_array(images) -> np.ndarray:
    """Converts an IMAGE to `[N, H, W, 3]` float32; transparency is left out."""
    return np.ascontiguousarray(images.detach().cpu().numpy()[..., :3], dtype=np.float32)


def as_image(pictures: np.ndarray):
    """Converts `[N, H, W, 3]` to an IMAGE."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(pictures, dtype=np.float32))


class MetaStyleFromPainting:
    """Makes a style from a painting."""

    CATEGORY = CATEGORY
    RETURN_TYPES = (STYLE,)
    RETURN_NAMES = ('style',)
    FUNCTION = 'predict'
    DESCRIPTION = 'Makes a style from any painting, in one pass.'

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802, ComfyUI calls it by this name
        """Returns the sockets."""
        return {'required': {'painting': ('IMAGE',)}}

    def predict(self, painting) -> tuple[StyleNorms]:
        """Predicts the style of the first image of the batch."""
        return (programs().predict(as_array(painting)[0]),)


class MetaStyleLoad:
    """Reads a style file."""

    CATEGORY = CATEGORY
    RETURN_TYPES = (STYLE,)
    RETURN_NAMES = ('style',)
    FUNCTION = 'load'
    DESCRIPTION = f'Reads a style of `metastyle adapt --params=norm` from models/{FOLDER}.'

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        """Returns the sockets; the list has the files of the folder."""
        folder = style_folder()
        files = (
            sorted(path.name for path in folder.glob('*.safetensors')) if folder.is_dir() else []
        )
        return {'required': {'file': (files,)}}

    @classmethod
    def IS_CHANGED(cls, file):  # noqa: N802
        """Returns what changes when the file does, so that ComfyUI reads it again."""
        path = style_folder() / file
        return f'{file} {path.stat().st_mtime_ns}' if path.is_file() else file

    def load(self, file: str) -> tuple[StyleNorms]:
        """Reads the file."""
        if pathlib.PurePath(file).name != file:
            raise ValueError(f'MetaStyle: {file!r} is no file name')
        return (programs().load_style(style_folder() / file),)


class MetaStyleBlend:
    """Mixes two styles."""

    CATEGORY = CATEGORY
    RETURN_TYPES = (STYLE,)
    RETURN_NAMES = ('style',)
    FUNCTION = 'mix'
    DESCRIPTION = 'Mixes two styles.'

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        """Returns the sockets."""
        share = ('FLOAT', {'default': 0.5, 'min': 0.0, 'max': 1.0, 'step': 0.01})
        return {'required': {'first': (STYLE,), 'second': (STYLE,), 'share_of_second': share}}

    def mix(self, first, second, share_of_second: float) -> tuple[StyleNorms]:
        """Returns the weighted mean."""
        return (blend([first, second], [1 - share_of_second, share_of_second]),)


class MetaStyleApply:
    """Stylizes images."""

    CATEGORY = CATEGORY
    RETURN_TYPES = ('IMAGE',)
    RETURN_NAMES = ('images',)
    FUNCTION = 'stylize'
    DESCRIPTION = 'Paints images in a style.'

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        """Returns the sockets."""
        strength = ('FLOAT', {'default': 1.0, 'min': 0.0, 'max': 1.0, 'step': 0.01})
        return {'required': {'images': ('IMAGE',), 'style': (STYLE,), 'strength': strength}}

    def stylize(self, images, style: StyleNorms, strength: float):
        """Stylizes the batch."""
        return (as_image(programs().stylize(as_array(images), style, strength)),)


NODE_CLASS_MAPPINGS = {
    'MetaStyleFromPainting': MetaStyleFromPainting,
    'MetaStyleLoad': MetaStyleLoad,
    'MetaStyleBlend': MetaStyleBlend,
    'MetaStyleApply': MetaStyleApply,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    'MetaStyleFromPainting': 'MetaStyle: style from a painting',
    'MetaStyleLoad': 'MetaStyle: style from a file',
    'MetaStyleBlend': 'MetaStyle: mix two styles',
    'MetaStyleApply': 'MetaStyle: paint',
}
