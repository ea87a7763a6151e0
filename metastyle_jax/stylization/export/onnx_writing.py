"""The style transformer as an ONNX graph of the operators that every runtime has.

The graph is written operator by operator. ONNX has single operators for reflection padding,
instance norm and nearest-neighbour resizing; a graph traced from JAX has many nodes for each.
Nodes and tensors have the names of the layers, such as `block1/first`, and kernels have ONNX's own
order `[C', C, K, K]`. Tools that quantize or convert a model rely on both.

Source: https://onnx.ai/onnx/operators, version 18 of the operator set.
"""

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np

from metastyle_jax._version import __version__
from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Params
from metastyle_jax.models import layers, transformer
from metastyle_jax.stylization import styled_network
from metastyle_jax.stylization.export import program

OPSET = 18  # the oldest version whose operators have today's meaning
IR_VERSION = 8  # the version of the file format that belongs to it
PRECISIONS = ('float32', 'float16', 'int8')
_LUMA = (0.299, 0.587, 0.114)  # Y of YIQ


def require_onnx() -> None:
    """Raises UserError, which names the extra to install, if ONNX cannot be written."""
    if importlib.util.find_spec('onnx') is None:
        raise UserError("ONNX needs the package onnx: pip install 'metastyle_jax[onnx]'")


def to_onnx(
    network: styled_network.StyledNetwork,
    metadata: Mapping[str, str],
    *,
    pixels: str = 'float32',
    size: tuple[int, int] | None = None,
    precision: str = 'float32',
) -> bytes:
    """Converts a network to an ONNX model with the input `images` and the output `stylized`.

    Args:
        network: from `styled_network.load`.
        metadata: texts to store in the model.
        pixels: type of input and output, see `program.pixel_function`.
        size: height and width of all images, for programs that need fixed ones; None for any.
        precision: how the kernels are stored, one of `PRECISIONS`.

    Returns:
        The contents of the file.

    Raises:
        UserError: the extra is missing, or `pixels` or `precision` is unknown.
    """
    require_onnx()
    checks.one_of('pixels', pixels, program.PIXELS)
    return build(
        network.forward_params(), metadata, pixels=pixels, strength=network.strength,
        keep_colours=network.keep_colours, size=size, precision=precision,
    )  # fmt: skip


class Graph:
    """Collects nodes and tensors. Each method appends some, and returns the name of their output.

    Args:
        precision: how the kernels are stored: 'float32', 'float16', or 'int8' with one scale for
            each output channel. The network computes in float32 with all three.
    """

    def __init__(self, precision: str) -> None:
        import onnx

        self._onnx = onnx
        self._precision = precision
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def node(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Appends a node.

        Args:
            operator: its ONNX name.
            inputs: names of tensors and of outputs of other nodes.
            name: of the node and of its only output.
            **attributes: of the operator.
        """
        made = self._onnx.helper.make_node(operator, inputs, [name], name=name, **attributes)
        self.nodes.append(made)
        return name

    def constant(self, value: Any, name: str, dtype: Any = np.float32) -> str:
        """Appends a tensor."""
        array = np.ascontiguousarray(np.asarray(value, dtype))
        self.tensors.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def kernel(self, value: np.ndarray, name: str) -> str:
        """Appends a kernel, and what turns its stored form into float32.

        Args:
            value: `[K, K, C, C']`.
            name: of the tensor.
        """
        kernel = np.asarray(value, np.float32).transpose(3, 2, 0, 1)
        if self._precision == 'float32':
            return self.constant(kernel, name)
        if self._precision == 'float16':
            stored = self.constant(kernel, f'{name}_float16', np.float16)
            return self.node('Cast', [stored], name, to=self._onnx.TensorProto.FLOAT)
        largest = np.abs(kernel).max(axis=(1, 2, 3))
        scale = np.where(largest > 0, largest / 127, 1.0).astype(np.float32)
        levels = np.round(kernel / scale[:, None, None, None])
        stored = self.constant(levels, f'{name}_int8', np.int8)
        scales = self.constant(scale, f'{name}_scale')
        zeros = self.constant(np.zeros(len(scale)), f'{name}_zero', np.int8)
        return self.node('DequantizeLinear', [stored, scales, zeros], name, axis=0)

    def reflect(self, x: str, margin: int, name: str) -> str:
        """Extends an image by reflection on all four sides."""
        sides = [0, 0, margin, margin]
        pads = self.constant([*sides, *sides], f'{name}_sides', np.int64)
        return self.node('Pad', [x, pads], name, mode='reflect')

    def convolution(self, x: str, params: Mapping[str, Any], name: str, *, stride: int = 1) -> str:
        """A convolution of an image that is extended by reflection."""
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
        """A convolution and an instance norm."""
        convolved = self.convolution(x, params['conv'], f'{name}/conv', stride=stride)
        scale, bias = (
            self.constant(params['norm'][part], f'{name}/norm/{part}') for part in ('scale', 'bias')
        )
        return self.node(
            'InstanceNormalization', [convolved, scale, bias], f'{name}/norm',
            epsilon=layers.EPSILON,
        )  # fmt: skip

    def upsample(self, x: str, like: str, name: str) -> str:
        """Doubles an image by nearest neighbours, and crops it to the size of another.

        An odd side was halved and rounded up on the way down, so its double is one pixel too long.
        """
        scales = self.constant([1, 1, 2, 2], f'{name}/scales')
        doubled = self.node(
            'Resize', [x, '', scales], f'{name}/double', mode='nearest',
            coordinate_transformation_mode='asymmetric', nearest_mode='floor',
        )  # fmt: skip
        size = self.node('Shape', [like], f'{name}/size', start=2, end=4)
        begin = self.constant([0, 0], f'{name}/begin', np.int64)
        axes = self.constant([2, 3], f'{name}/axes', np.int64)
        return self.node('Slice', [doubled, begin, size, axes], f'{name}/crop')


def build(
    params: Params,
    metadata: Mapping[str, str],
    *,
    pixels: str = 'float32',
    strength: float = 1.0,
    keep_colours: bool = False,
    size: tuple[int, int] | None = None,
    precision: str = 'float32',
) -> bytes:
    """Writes the transformer as an ONNX model with the input `images` and the output `stylized`.

    Args:
        params: of the transformer, as `transformer.init` returns them.
        metadata: of the model.
        pixels: of input and output: 'float32' in 0..1, or 'uint8' in 0..255.
        strength: from 0, the image itself, to 1, the network's output.
        keep_colours: whether the image keeps its colours and takes only the style's brightness.
        size: height and width for programs that need fixed ones; None for any, from 16 on.
        precision: of the stored kernels, one of `PRECISIONS`.

    Returns:
        The contents of the file.

    Raises:
        UserError: the precision is unknown.
    """
    checks.one_of('precision', precision, PRECISIONS)
    import onnx

    graph = Graph(precision)
    photos = _photos(graph, pixels)
    stylized = _transformer(graph, params, photos)
    if strength < 1:
        change = graph.node('Sub', [stylized, photos], 'strength/change')
        share = graph.constant(strength, 'strength/share')
        part = graph.node('Mul', [change, share], 'strength/part')
        stylized = graph.node('Add', [photos, part], 'strength/blend')
    if keep_colours:
        stylized = _with_colours_of(graph, stylized, photos)
    _pixels_out(graph, stylized, pixels)
    shape = ['batch', *(size or ('height', 'width')), 3]
    kind = onnx.TensorProto.UINT8 if pixels == 'uint8' else onnx.TensorProto.FLOAT
    made = onnx.helper.make_graph(
        graph.nodes, 'metastyle',
        [onnx.helper.make_tensor_value_info('images', kind, shape)],
        [onnx.helper.make_tensor_value_info('stylized', kind, shape)],
        graph.tensors,
    )  # fmt: skip
    model = onnx.helper.make_model(
        made, opset_imports=[onnx.helper.make_opsetid('', OPSET)], ir_version=IR_VERSION,
        producer_name='metastyle_jax', producer_version=__version__,
    )  # fmt: skip
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _photos(graph: Graph, pixels: str) -> str:
    """The input as float32 in 0..1, channels first."""
    x = 'images'
    if pixels == 'uint8':
        x = graph.node('Cast', [x], 'photos/float', to=graph._onnx.TensorProto.FLOAT)
        x = graph.node('Div', [x, graph.constant(255, 'photos/levels')], 'photos/unit')
    return graph.node('Transpose', [x], 'photos', perm=[0, 3, 1, 2])


def _transformer(graph: Graph, params: Params, photos: str) -> str:
    """`transformer.apply_with_margin`, on channels first."""
    _, blocks = transformer.width_and_blocks(params)
    margin = transformer.MARGIN

    def rectified(x: str, name: str, **options: Any) -> str:
        x = graph.convolution_and_norm(x, params[name], name, **options)
        return graph.node('Relu', [x], f'{name}/relu')

    x = graph.reflect(photos, margin, 'margin/reflect')
    full = rectified(x, 'down1')
    half = rectified(full, 'down2', stride=2)
    x = rectified(half, 'down3', stride=2)
    for i in range(1, blocks + 1):
        name, block = f'block{i}', params[f'block{i}']
        first, second = sorted(block)
        y = graph.convolution_and_norm(x, block[first], f'{name}/{first}')
        y = graph.node('Relu', [y], f'{name}/relu')
        y = graph.convolution_and_norm(y, block[second], f'{name}/{second}')
        x = graph.node('Add', [x, y], name)
    x = rectified(graph.upsample(x, half, 'up1'), 'up1')
    x = rectified(graph.upsample(x, full, 'up2'), 'up2')
    x = graph.node('Sigmoid', [graph.convolution(x, params['out'], 'out')], 'out/sigmoid')
    cut = {'begin': [margin] * 2, 'end': [-margin] * 2, 'axes': [2, 3]}
    bounds = [graph.constant(value, f'margin/{key}', np.int64) for key, value in cut.items()]
    return graph.node('Slice', [x, *bounds], 'margin/crop')


def _with_colours_of(graph: Graph, stylized: str, photos: str) -> str:
    """The photographs with the brightness of the stylized images, see `colour_transfer.keep`."""
    change = graph.node('Sub', [stylized, photos], 'colours/change')
    weights = graph.constant(np.reshape(_LUMA, (1, 3, 1, 1)), 'colours/luma')
    weighted = graph.node('Mul', [change, weights], 'colours/weighted')
    axis = graph.constant([1], 'colours/axis', np.int64)
    brightness = graph.node('ReduceSum', [weighted, axis], 'colours/brightness', keepdims=1)
    return _clip(graph, graph.node('Add', [photos, brightness], 'colours/sum'), 'colours')


def _pixels_out(graph: Graph, stylized: str, pixels: str) -> None:
    """Channels last, in the type of the output."""
    if pixels == 'float32':
        graph.node('Transpose', [stylized], 'stylized', perm=[0, 2, 3, 1])
        return
    x = _clip(graph, stylized, 'stylized/clip')
    x = graph.node('Mul', [x, graph.constant(255, 'stylized/levels')], 'stylized/scaled')
    x = graph.node('Round', [x], 'stylized/round')
    x = graph.node('Cast', [x], 'stylized/bytes', to=graph._onnx.TensorProto.UINT8)
    graph.node('Transpose', [x], 'stylized', perm=[0, 2, 3, 1])


def _clip(graph: Graph, x: str, name: str) -> str:
    """Clips values to 0..1."""
    bounds = [graph.constant(value, f'{name}_{value}') for value in (0, 1)]
    return graph.node('Clip', [x, *bounds], name)
