"""The base class of image sources, and the error class of sources and batches."""

import abc
import errno
import hashlib

import numpy as np

from metastyle_jax.core import errors
from metastyle_jax.data.images import image_files

SHOWN_NAMES = 10  # most names that one message lists
# Too many open files, a network folder that does not answer for a while, no memory.
_TEMPORARY = (errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT, errno.ENOMEM)


class DataError(errors.UserError):
    """An image source cannot be used, or a setting of the batches is invalid."""


class ImageSource(abc.ABC):
    """A numbered collection of encoded images.

    Each source can be pickled, because worker processes need a copy of it.

    Attributes:
        word: the word of the user that names the source, such as `folder:photos`, for messages.
    """

    word: str

    @abc.abstractmethod
    def __len__(self) -> int:
        """Returns the number of images."""

    @abc.abstractmethod
    def __getitem__(self, index: int) -> str | bytes:
        """Returns the path or the encoded bytes of one image."""

    @abc.abstractmethod
    def name(self, index: int) -> str:
        """Returns a name by which a user can find the image."""

    def digest(self) -> str:
        """Returns a hash of all names in their order, by which a changed source is noticed."""
        return short_hash('\n'.join(map(self.name, range(len(self)))))

    def decode(self, index: int, min_side: int | None = None) -> np.ndarray:
        """Reads one image.

        Args:
            index: the number of the image in the source.
            min_side: a larger image may be reduced, which is faster, as long as its shorter side
                keeps at least this many pixels. None for the full size.

        Returns:
            `[H, W, 3]` uint8.

        Raises:
            ImageError: the file is missing or damaged.
        """
        return image_files.read_uint8(self[index], min_side=min_side)


def short_hash(text: str) -> str:
    """Returns 16 hexadecimal digits of the SHA-256 of a text."""
    # File names that are not valid UTF-8 contain surrogates.
    return hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:16]


def raise_if_temporary(error: image_files.ImageError) -> None:
    """Raises DataError if the cause of an error is the machine and not the image.

    An image that could not be read for lack of memory or of file handles may be intact. So it must
    not be counted as damaged, and must not be replaced by another image.

    Args:
        error: the error that reading the image raised.
    """
    cause = error.__cause__
    if isinstance(cause, MemoryError) or getattr(cause, 'errno', None) in _TEMPORARY:
        raise DataError(
            f'{error}. The file may be intact: start again on a machine with free memory and '
            'working file access'
        ) from error
