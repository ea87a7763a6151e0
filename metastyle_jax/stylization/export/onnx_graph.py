"""Builds an ONNX graph from the layers of the style transformer.

ONNX has single operators for reflection padding, instance norm and nearest-neighbour resizing,
while a graph traced from JAX has many nodes for each. So this module writes the graph itself. Nodes
and tensors have the names of the layers, such as `block1/first`, and kernels have ONNX's axis order
`[C', C, K, K]`. Tools that quantize or convert a model rely on names and order.

Source: https://onnx.ai/onnx/operators, version 13 of the operator set.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from metastyle_jax.models import layers

OPSET = 13  # the oldest version that has today's ReduceSum
IR_VERSION = 7  # the version of the file format that belongs to it
PRECISIONS = ('float32', 'float16', 'int8')


class Graph:
    """Collects the nodes and tensors of an ONNX graph.

    Each method appends nodes and tensors, and returns the name of the output of the last one.

    Args:
        precision: how the 3 × 3 kernels are stored: 'float32', 'float16', or 'int8' with one scale
            for each output channel. The network computes in float32 in each case.

    Attributes:
        onnx: the imported package `onnx`.
        precision: how the next kernels are stored.
        nodes: ONNX nodes, in the order of computation.
        tensors: ONNX tensors of the constants.
    """

    def __init__(self, precision: str) -> None:
        import onnx

        self.onnx = onnx
        self.precision = precision
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def node(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Appends a node with one output.

        Args:
            operator: ONNX name of the operator.
            inputs: names of the inputs: tensors, or outputs of other nodes.
            name: name of the node and of its output.
            **attributes: attributes of the operator.
        """
        made = self.onnx.helper.make_node(operator, inputs, [name], name=name, **attributes)
        self.nodes.append(made)
        return name

    def constant(self, value: Any, name: str, dtype: Any = np.float32) -> str:
        """Appends a constant tensor."""
        array = np.ascontiguousarray(np.asarray(value, dtype))
        self.tensors.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def kernel(self, value: np.ndarray, name: str) -> str:
        """Appends a kernel in the stored precision, and nodes that convert it to float32.

        Args:
            value: the kernel, `[K, K, C, C']`.
            name: name of the float32 kernel.
        """
        kernel = np.asarray(value, np.float32).transpose(3, 2, 0, 1)
        # The 9 × 9 kernels of the first and the last layer are 1 % of the bytes. Rounding the first
        # one to int8 changes the output more than rounding all others together.
        if self.precision == 'float32' or kernel.shape[-1] > 3:
            return self.constant(kernel, name)
        to = self.onnx.TensorProto.FLOAT
        if self.precision == 'float16':
            stored = self.constant(kernel, f'{name}_float16', np.float16)
            return self.node('Cast', [stored], name, to=to)
        # More runtimes have Cast and Mul than DequantizeLinear, and compute them once, on opening.
        levels, scale = to_int8(kernel)
        stored = self.constant(levels, f'{name}_int8', np.int8)
        scales = self.constant(scale[:, None, None, None], f'{name}_scale')
        whole = self.node('Cast', [stored], f'{name}_levels', to=to)
        return self.node('Mul', [whole, scales], name)

    def reflect(self, x: str, margin: int, name: str) -> str:
        """Extends an image by reflection on all four sides."""
        sides = [0, 0, margin, margin]
        pads = self.constant([*sides, *sides], f'{name}_sides', np.int64)
        return self.node('Pad', [x, pads], name, mode='reflect')

    def convolution(self, x: str, params: Mapping[str, Any], name: str, *, stride: int = 1) -> str:
        """Appends a convolution with reflection padding."""
        size = np.shape(params['kernel'])[0]
        padded = self.reflect(x, size // 2, f'{name}/reflect')
        kernel = self.kernel(params['kernel'], f'{name}/kernel')
        bias = self.constant(params['bias'], f'{name}/bias')
        return self.node(
            'Conv', [padded, kernel, bias], name, kernel_shape=[size, size],
            strides=[stride, stride],
        )  # fmt: skip

    def convolution_and_norm(
        self, x: str, params: Mapping[str, Any], name: str, *, stride: int = 1
    ) -> str:
        """Appends a convolution with reflection padding, and an instance norm.

        Scale and bias of the norm are arrays, or names of tensors that are computed at run time.
        """
        convolved = self.convolution(x, params['conv'], f'{name}/conv', stride=stride)
        scale, bias = (
            leaf if isinstance(leaf, str) else self.constant(leaf, f'{name}/norm/{part}')
            for part, leaf in ((part, params['norm'][part]) for part in ('scale', 'bias'))
        )
        return self.node(
            'InstanceNormalization', [convolved, scale, bias], f'{name}/norm',
            epsilon=layers.EPSILON,
        )  # fmt: skip

    def upsample(self, x: str, like: str, name: str, size: tuple[int, int] | None) -> str:
        """Doubles height and width by nearest neighbours, and crops to the size of another tensor.

        An earlier layer halved each side and rounded up, so doubling an odd side gives one pixel
        too many.

        Args:
            x: name of the tensor to enlarge.
            like: name of the tensor whose height and width the result must have.
            name: name of the layer.
            size: height and width of `like`; None if they are known only at run time.
        """
        scales = self.constant([1, 1, 2, 2], f'{name}/scales')
        doubled = self.node(
            'Resize', [x, '', scales], f'{name}/double', mode='nearest',
            coordinate_transformation_mode='asymmetric', nearest_mode='floor',
        )  # fmt: skip
        if size is None:
            shape = self.node('Shape', [like], f'{name}/shape')
            bounds = [
                self.constant([value], f'{name}/{bound}', np.int64)
                for bound, value in (('from', 2), ('to', 4), ('axis', 0))
            ]
            end = self.node('Slice', [shape, *bounds], f'{name}/size')
        elif all(side % 2 == 0 for side in size):
            return doubled
        else:
            end = self.constant(size, f'{name}/size', np.int64)
        return self.crop(doubled, [0, 0], end, name)

    def crop(self, x: str, begin: list[int], end: str, name: str) -> str:
        """Crops rows and columns.

        Args:
            x: name of the tensor to crop.
            begin: first row and first column that are kept.
            end: name of a tensor with the first row and the first column after the kept ones.
            name: prefix of the names of the new node and tensors.
        """
        starts = self.constant(begin, f'{name}/begin', np.int64)
        axes = self.constant([2, 3], f'{name}/axes', np.int64)
        return self.node('Slice', [x, starts, end, axes], f'{name}/crop')


def to_int8(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantizes a kernel: each output channel becomes integers times one scale.

    Args:
        kernel: `[C', C, K, K]` float32.

    Returns:
        The integers in -127..127, `[C', C, K, K]` float32, and the scales, `[C']` float32.
    """
    largest = np.abs(kernel).max(axis=(1, 2, 3))
    scale = np.where(largest > 0, largest / 127, 1.0).astype(np.float32)
    return np.round(kernel / scale[:, None, None, None]), scale
