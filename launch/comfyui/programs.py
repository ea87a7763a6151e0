"""Runs the two ONNX programs of θ; this module knows nothing about ComfyUI.

`predictor.onnx` maps a painting to instance norms, and `transformer.onnx` maps photographs and
instance norms to stylized photographs. `metastyle export --web` writes them.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

MIN_SIDE = 16  # pixels, of any picture


class StyleNorms(NamedTuple):
    """A style.

    Attributes:
        name: name of the painting.
        norms: `[K]` float32, all scales and biases of instance norms, in the order of the manifest.
    """

    name: str
    norms: np.ndarray


class Programs:
    """The programs of one θ, opened when they are first used."""

    def __init__(self, folder: pathlib.Path, providers: Sequence[str] | None = None) -> None:
        """Reads the manifest.

        Args:
            folder: the folder that `metastyle export --web` wrote.
            providers: execution providers of onnxruntime, best first; None for all that it has.

        Raises:
            FileNotFoundError: the folder holds no programs.
        """
        manifest = folder / 'manifest.json'
        if not manifest.is_file():
            raise FileNotFoundError(
                f'MetaStyle: {manifest} is missing: make this folder with `bash launch/comfyui.sh`'
            )
        self.manifest: dict[str, Any] = json.loads(manifest.read_text('utf-8'))
        self._folder = folder
        self._providers = providers
        self._sessions: dict[str, Any] = {}

    def predict(self, painting: np.ndarray, name: str = 'painting') -> StyleNorms:
        """Predicts a style.

        Args:
            painting: `[H, W, 3]` float32 in 0..1.
            name: name of the style.
        """
        facts = self.manifest['predictor']
        resized = fit_area(painting, facts['painting_side'])
        (norms,) = self._session('predictor').run(
            [facts['output']], {facts['input']: resized[np.newaxis]}
        )
        return StyleNorms(name, norms[0])

    def stylize(self, images: np.ndarray, style: StyleNorms, strength: float = 1.0) -> np.ndarray:
        """Stylizes photographs, one after the other.

        Args:
            images: `[N, H, W, 3]` float32 in 0..1.
            style: the style.
            strength: 0 for the photograph itself, 1 for the full style.

        Returns:
            Pictures of the same shape.

        Raises:
            ValueError: the photographs are too small.
        """
        if min(images.shape[1:3]) < MIN_SIDE:
            raise ValueError(
                f'MetaStyle: an image of {images.shape[2]} x {images.shape[1]} pixels: both sides '
                f'must have at least {MIN_SIDE}'
            )
        facts = self.manifest['transformer']
        plain = np.array(self.manifest['theta_norms'], np.float32)
        norms = strength * style.norms + (1 - strength) * plain
        session = self._session('transformer')
        photograph, numbers = facts['inputs']
        painted = [
            session.run([facts['output']], {photograph: image[np.newaxis], numbers: norms})[0][0]
            for image in images
        ]
        return strength * np.stack(painted) + (1 - strength) * images

    def load_style(self, path: pathlib.Path) -> StyleNorms:
        """Reads a style file of `metastyle adapt --params=norm`.

        Args:
            path: the `.safetensors` file.

        Raises:
            ValueError: it is no style file, or one that these programs cannot use.
        """
        import safetensors

        try:
            with safetensors.safe_open(path, framework='numpy') as file:
                facts = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, safetensors.SafetensorError) as error:
            raise ValueError(f'MetaStyle: {path} cannot be read: {error}') from error
        if facts.get('format') != 'metastyle_jax.style':
            raise ValueError(f'MetaStyle: {path} is no style file of metastyle_jax')
        if facts['adapted'] != 'norm':
            raise ValueError(
                f'MetaStyle: {path} holds a whole network: adapt the style with '
                '`metastyle adapt --params=norm`'
            )
        if facts['theta_sha256'] != self.manifest['theta_sha256']:
            raise ValueError(
                f'MetaStyle: {path} was adapted from another θ: adapt it again, or build the '
                'programs from that θ with THETA=FILE bash launch/comfyui.sh'
            )
        norms = np.concatenate(
            [np.ravel(tensors[norm['name']]).astype(np.float32) for norm in self.manifest['norms']]
        )
        return StyleNorms(facts['style_name'], norms)

    def _session(self, name: str) -> Any:
        """Returns the opened program 'predictor' or 'transformer'."""
        if name not in self._sessions:
            import onnxruntime

            self._sessions[name] = onnxruntime.InferenceSession(
                self._folder / self.manifest[name]['file'],
                providers=list(self._providers or onnxruntime.get_available_providers()),
            )
        return self._sessions[name]


def blend(styles: Sequence[StyleNorms], weights: Sequence[float]) -> StyleNorms:
    """Computes the weighted mean of styles."""
    parts = [weight * style.norms for style, weight in zip(styles, weights, strict=True)]
    name = ' + '.join(style.name for style in styles)
    return StyleNorms(name, np.sum(parts, axis=0, dtype=np.float32) / np.float32(sum(weights)))


def fit_area(image: np.ndarray, side: int) -> np.ndarray:
    """Resizes an image to the area of a square, and keeps its aspect ratio.

    Args:
        image: `[H, W, 3]` float32 in 0..1.
        side: side of the square in pixels.
    """
    scale = side / (image.shape[0] * image.shape[1]) ** 0.5
    height, width = (max(MIN_SIDE, round(length * scale)) for length in image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    channels = [
        Image.fromarray(np.ascontiguousarray(image[..., channel])).resize(
            (width, height), Image.Resampling.LANCZOS
        )
        for channel in range(3)
    ]
    return np.clip(np.stack([np.array(channel) for channel in channels], axis=-1), 0, 1)
