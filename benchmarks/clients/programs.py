"""The exported programs of the matrix, their images, and what JAX makes of them."""

import functools
import pathlib
import time
from typing import NamedTuple

import jax
import numpy as np

from benchmarks import inputs
from metastyle_jax.core.types import Params
from metastyle_jax.storage import tensor_files
from metastyle_jax.stylization import styled_network
from metastyle_jax.stylization.export import onnx_graph, onnx_writing, program, stablehlo_program

Size = tuple[int, int]
ODD = (75, 98)  # sides that are not multiples of four
TINY = (33, 40)  # for clients that need too long for more
TIMED = ((256, 256), (512, 512))


class Variant(NamedTuple):
    """A kind of program.

    Attributes:
        name: as it stands in the table. The variant 'fixed' is that of float32 with a fixed number,
            height and width, which every client gets.
        pixels: 'float32' or 'uint8'.
        precision: of the stored kernels.
    """

    name: str
    pixels: str = 'float32'
    precision: str = 'float32'


VARIANTS = (
    Variant('float32'),
    Variant('fixed'),
    Variant('float16', precision='float16'),
    Variant('int8', precision='int8'),
    Variant('uint8', pixels='uint8'),
)


class Programs:
    """Writes programs and images into a folder as they are needed.

    Args:
        network: the network of all programs.
        folder: for the files.
    """

    def __init__(self, network: styled_network.StyledNetwork, folder: pathlib.Path) -> None:
        self._network = network
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._written: set[pathlib.Path] = set()  # in this run; older ones may be of another style

    def file(self, variant: Variant, format: str, size: Size | None) -> pathlib.Path:
        """The file of a program for any images, or for one image of a size."""
        height_and_width = 'any' if size is None else 'x'.join(map(str, size))
        stem = f'{variant.pixels}_{variant.precision}_{height_and_width}'
        path = self.folder / f'{stem}.{format}'
        if path in self._written:
            return path
        self._written.add(path)
        fixed = None if size is None else (1, *size)
        if format == 'onnx':
            data = onnx_writing.to_onnx(
                self._network, {}, pixels=variant.pixels, size=fixed, precision=variant.precision
            )
        else:
            data = stablehlo_program.to_stablehlo(self._network, pixels=variant.pixels, size=fixed)
        path.write_bytes(data)
        return path

    def images(self, pixels: str, size: Size) -> np.ndarray:
        """An image `[1, H, W, 3]`."""
        made = inputs.images(1, max(size), seed=1)[:, : size[0], : size[1]]
        return made if pixels == 'uint8' else made.astype(np.float32) / np.float32(255)

    @functools.cache  # noqa: B019  # there is one object of this class in a run
    def wanted(self, variant: Variant, size: Size) -> np.ndarray:
        """What JAX makes of the image, with the kernels as the program stores them."""
        return np.asarray(self._function(variant)(self.images(variant.pixels, size)))

    def rounding(self, precision: str) -> float:
        """The largest difference that rounding the kernels makes in JAX."""
        exact, rounded = Variant('float32'), Variant(precision, precision=precision)
        size = TIMED[0]
        return float(np.max(np.abs(self.wanted(exact, size) - self.wanted(rounded, size))))

    def seconds(self, size: Size) -> float:
        """Seconds that JAX needs for one image; the first call also compiles."""
        images = self.images('float32', size)
        function = self._function(Variant('float32'))
        start = time.perf_counter()
        jax.block_until_ready(function(images))
        return time.perf_counter() - start

    @functools.cache  # noqa: B019
    def _function(self, variant: Variant):
        params = rounded(self._network.forward_params(), variant.precision)
        network = self._network._replace(params=params)
        return jax.jit(program.pixel_function(network, pixels=variant.pixels))


def rounded(params: Params, precision: str) -> Params:
    """Parameters of the transformer as a program stores them."""
    flat = {name: np.asarray(array) for name, array in tensor_files.flatten(params).items()}
    for name, kernel in flat.items():
        if not name.endswith('kernel') or kernel.shape[0] > 3 or precision == 'float32':
            continue
        if precision == 'float16':
            flat[name] = kernel.astype(np.float16).astype(np.float32)
            continue
        levels, scale = onnx_graph.to_int8(kernel.transpose(3, 2, 0, 1))
        stored = (levels * scale[:, None, None, None]).astype(np.float32)
        flat[name] = stored.transpose(2, 3, 1, 0)
    return tensor_files.unflatten(flat)


def difference(made: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference; infinite where a value is no number."""
    found = np.abs(made.astype(np.float64) - wanted.astype(np.float64))
    return float(np.max(np.where(np.isnan(found), np.inf, found)))
