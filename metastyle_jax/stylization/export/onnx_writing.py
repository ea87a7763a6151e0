"""Writes the style transformer as an ONNX model with operators that all common runtimes support.

The layers come from `onnx_graph`. If height and width are fixed, the model has no node that
computes a size, because some runtimes do not support that.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metastyle_jax._version import __version__
from metastyle_jax.core import checks
from metastyle_jax.core.errors import UserError
from metastyle_jax.core.types import Params
from metastyle_jax.models import transformer
from metastyle_jax.stylization import styled_network
from metastyle_jax.stylization.export import onnx_graph, program


def require_onnx() -> None:
    """Raises UserError if the package `onnx` is missing; the message says how to install it."""
    if importlib.util.find_spec('onnx') is None:
        raise UserError("ONNX needs the package onnx: pip install 'metastyle_jax[onnx]'")


def to_onnx(
    network: styled_network.StyledNetwork,
    metadata: Mapping[str, str],
    *,
    pixels: str = 'float32',
    size: tuple[int, ...] | None = None,
    precision: str = 'float32',
) -> bytes:
    """Converts a network to an ONNX model with the input `images` and the output `stylized`.

    Args:
        network: the network, from `styled_network.load`.
        metadata: name -> text of the metadata to store in the model.
        pixels: type of input and output, see `program.pixel_function`.
        size: fixed (height, width) or (batch size, height, width) of the images, for runtimes that
            need fixed sizes; None for any size.
        precision: how the 3 × 3 kernels are stored, one of `onnx_graph.PRECISIONS`.

    Returns:
        The contents of the file.

    Raises:
        UserError: the package `onnx` is missing, or `pixels` or `precision` is unknown.
    """
    require_onnx()
    checks.one_of('pixels', pixels, program.PIXELS)
    return build(
        network.forward_params(), metadata, pixels=pixels, strength=network.strength,
        keep_colours=network.keep_colours, size=size, precision=precision,
    )  # fmt: skip


def build(
    params: Params,
    metadata: Mapping[str, str],
    *,
    pixels: str = 'float32',
    strength: float = 1.0,
    keep_colours: bool = False,
    size: tuple[int, ...] | None = None,
    precision: str = 'float32',
) -> bytes:
    """Writes the transformer as an ONNX model with the input `images` and the output `stylized`.

    Args:
        params: parameters of the transformer, as `transformer.init` returns them.
        metadata: name -> text of the metadata to store in the model.
        pixels: type of input and output: 'float32' in 0..1, or 'uint8' in 0..255.
        strength: share of the network's output in the result, 0..1; the rest is the image itself.
        keep_colours: whether the result keeps the colours of the image, and takes only the
            brightness of the network's output.
        size: see `to_onnx`.
        precision: see `to_onnx`.

    Returns:
        The contents of the file.

    Raises:
        UserError: the precision is unknown.
    """
    checks.one_of('precision', precision, onnx_graph.PRECISIONS)
    graph = onnx_graph.Graph(precision)
    photos = photographs(graph, pixels)
    shape = ['batch', 'height', 'width', 3]
    if size is not None:
        shape[-1 - len(size) : -1] = size
    stylized = transformer_nodes(graph, params, photos, None if size is None else size[-2:])
    if strength < 1:
        change = graph.node('Sub', [stylized, photos], 'strength/change')
        share = graph.constant(strength, 'strength/share')
        part = graph.node('Mul', [change, share], 'strength/part')
        stylized = graph.node('Add', [photos, part], 'strength/blend')
    if keep_colours:
        stylized = _with_colours_of(graph, stylized, photos)
    pixels_out(graph, stylized, pixels)
    kind = graph.onnx.TensorProto.UINT8 if pixels == 'uint8' else graph.onnx.TensorProto.FLOAT
    tensor = graph.onnx.helper.make_tensor_value_info
    return to_bytes(
        graph, [tensor('images', kind, shape)], [tensor('stylized', kind, shape)], metadata
    )


def to_bytes(
    graph: onnx_graph.Graph,
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    metadata: Mapping[str, str],
) -> bytes:
    """Makes the contents of an ONNX file from a graph.

    Args:
        graph: nodes and constants.
        inputs: ONNX value infos of the inputs.
        outputs: ONNX value infos of the outputs.
        metadata: name -> text of the metadata to store in the model.
    """
    onnx = graph.onnx
    made = onnx.helper.make_graph(graph.nodes, 'metastyle', inputs, outputs, graph.tensors)
    model = onnx.helper.make_model(
        made, opset_imports=[onnx.helper.make_opsetid('', onnx_graph.OPSET)],
        ir_version=onnx_graph.IR_VERSION,
        producer_name='metastyle_jax', producer_version=__version__,
    )  # fmt: skip
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    return model.SerializeToString()


def photographs(graph: onnx_graph.Graph, pixels: str, name: str = 'images') -> str:
    """Appends nodes that convert an input `[N, H, W, 3]` to float32 `[N, 3, H, W]` in 0..1.

    Args:
        graph: the graph to extend.
        pixels: type of the input, 'float32' or 'uint8'.
        name: name of the input.
    """
    x = name
    if pixels == 'uint8':
        x = graph.node('Cast', [x], 'photos/float', to=graph.onnx.TensorProto.FLOAT)
        x = graph.node('Div', [x, graph.constant(255, 'photos/levels')], 'photos/unit')
    return graph.node('Transpose', [x], 'photos', perm=[0, 3, 1, 2])


def transformer_nodes(
    graph: onnx_graph.Graph, params: Params, photos: str, size: tuple[int, ...] | None
) -> str:
    """Appends the nodes of `transformer.apply_with_margin`, for images `[N, 3, H, W]`.

    Args:
        graph: the graph to extend.
        params: parameters of the transformer. Instance norms may be names of tensors.
        photos: name of the input tensor.
        size: height and width of the images; None for a graph that computes sizes at run time.
    """
    _, blocks = transformer.width_and_blocks(params)
    margin = transformer.MARGIN
    sizes: list[tuple[int, int] | None] = [None, None]  # of the outputs of down1 and down2
    if size is not None:
        height, width = (side + 2 * margin for side in size)
        sizes = [(height, width), (-(-height // 2), -(-width // 2))]

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
    x = rectified(graph.upsample(x, half, 'up1', sizes[1]), 'up1')
    x = rectified(graph.upsample(x, full, 'up2', sizes[0]), 'up2')
    x = graph.node('Sigmoid', [graph.convolution(x, params['out'], 'out')], 'out/sigmoid')
    end = [-margin] * 2 if size is None else [margin + side for side in size]
    return graph.crop(x, [margin] * 2, graph.constant(end, 'margin/end', np.int64), 'margin')


def _with_colours_of(graph: onnx_graph.Graph, stylized: str, photos: str) -> str:
    """Appends nodes that give the photographs the brightness of the stylized images.

    They compute the same as `colour_transfer.keep`.
    """
    change = graph.node('Sub', [stylized, photos], 'colours/change')
    weights = graph.constant(program.LUMA.reshape(1, 3, 1, 1), 'colours/luma')
    weighted = graph.node('Mul', [change, weights], 'colours/weighted')
    axis = graph.constant([1], 'colours/axis', np.int64)
    brightness = graph.node('ReduceSum', [weighted, axis], 'colours/brightness', keepdims=1)
    return _clip(graph, graph.node('Add', [photos, brightness], 'colours/sum'), 'colours')


def pixels_out(graph: onnx_graph.Graph, stylized: str, pixels: str) -> None:
    """Appends nodes that convert `[N, 3, H, W]` in 0..1 to `[N, H, W, 3]` of the output's type."""
    if pixels == 'float32':
        graph.node('Transpose', [stylized], 'stylized', perm=[0, 2, 3, 1])
        return
    x = _clip(graph, stylized, 'stylized/clip')
    x = graph.node('Mul', [x, graph.constant(255, 'stylized/levels')], 'stylized/scaled')
    x = graph.node('Round', [x], 'stylized/round')
    x = graph.node('Cast', [x], 'stylized/bytes', to=graph.onnx.TensorProto.UINT8)
    graph.node('Transpose', [x], 'stylized', perm=[0, 2, 3, 1])


def _clip(graph: onnx_graph.Graph, x: str, name: str) -> str:
    """Appends a node that clips values to 0..1."""
    bounds = [graph.constant(value, f'{name}_{value}') for value in (0, 1)]
    return graph.node('Clip', [x, *bounds], name)
