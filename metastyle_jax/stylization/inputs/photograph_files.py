"""Reads photographs, writes stylized pictures with their metadata, and collects warnings."""

import pathlib

import numpy as np

from metastyle_jax.data.images import (
    image_files,
    image_writing,
    notices,
    pixel_values,
    plain_pictures,
)
from metastyle_jax.data.images.metadata import photo_metadata
from metastyle_jax.stylization import render


class PhotographFiles:
    """Reads the photographs of a run, and writes the stylized pictures.

    Args:
        max_size: photographs are reduced so that their longer side has at most this many pixels;
            None keeps their size.
        keep_location: whether to keep metadata that say where a photograph was taken.
    """

    def __init__(self, *, max_size: int | None, keep_location: bool):
        self._max_size = max_size
        self._keep_location = keep_location
        self._notices = notices.PictureNotices()
        self._read = 0

    def read(self, path: pathlib.Path) -> pixel_values.Picture:
        """Reads a photograph.

        Raises:
            ImageError: see `render.read_fitted`.
        """
        picture = render.read_fitted(path, self._max_size, name='picture')
        self._read += 1
        count = image_files.frames(path)
        if count > 1:
            self._notices.add(f'the first of its {count} frames is used', str(path))
        if text := plain_pictures.of_photograph(picture.rgb):
            self._notices.add(text, str(path))
        return picture

    def write(
        self,
        target: pathlib.Path,
        rgb: np.ndarray,
        *,
        alpha: np.ndarray | None,
        source: pathlib.Path,
        overwrite: bool,
    ) -> None:
        """Writes a stylized picture with the metadata of its photograph.

        Args:
            target: the file to write.
            rgb: `[H, W, 3]` float32 in 0..1.
            alpha: `[H, W]` float32 in 0..1, or None.
            source: the file of the photograph, from which the metadata are read.
            overwrite: whether an existing file may be replaced.

        Raises:
            ImageError: see `image_writing.write`.
        """
        metadata = photo_metadata.read(source, keep_location=self._keep_location)
        left_out = image_writing.write(
            target, rgb, alpha=alpha, overwrite=overwrite, metadata=metadata
        )
        if metadata.damaged:
            kinds = ', '.join(metadata.damaged)
            self._notices.add(
                f'damaged metadata ({kinds}); only the readable part goes to the result',
                str(source),
            )
        if left_out:
            self._notices.add(
                f'metadata ({", ".join(left_out)}) too large for {target.suffix}; some of them are '
                'left out of the result',
                str(source),
            )
        if alpha is not None and not image_writing.holds_alpha(target):
            self._notices.add(
                f'transparent areas become white in {target.suffix}; write .png to keep them '
                'transparent',
                str(source),
            )

    def report(self) -> None:
        """Logs the warnings of the run, one line for each kind."""
        self._notices.report(self._read)
