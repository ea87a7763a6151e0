"""Two ONNX programs that together stylize in the style of any painting.

`predictor` maps a painting to instance norms; it contains VGG-16, the style features and θ's norm
predictor. `transformer` maps photographs and instance norms to stylized photographs. In both,
the instance norms are one vector: all tensors, concatenated in the order of their names. A weighted
sum of two such vectors blends two styles, or weakens a style.
"""

import itertools
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from metastyle_jax.core import trees
from metastyle_jax.core.types import Params
from metastyle_jax.models import norm_predictor, transformer, vgg, vgg_weights
from metastyle_jax.storage import tensor_files, theta_files
from metastyle_jax.stylization.export import onnx_graph, onnx_writing


class Norm(NamedTuple):
    """The position of one tensor in the vector of all instance norms.

    Attributes:
        name: name of the tensor, such as 'down1/norm/scale'.
        offset: index of its first element in the vector.
        length: its number of channels.
    """

    name: str
    offset: int
    length: int


def norms_of(params: Params) -> list[Norm]:
    """Lists the instance norms of a transformer, in the order of the vector."""
    norms, _ = trees.partition(params, transformer.adapted('norm'))
    lengths = {name: leaf.shape[0] for name, leaf in sorted(norms.items())}
    offsets = itertools.accumulate(lengths.values(), initial=0)
    return [Norm(name, offset, lengths[name]) for name, offset in zip(lengths, offsets)]  # noqa: B905


def to_vector(params: Params) -> np.ndarray:
    """Returns the instance norms of a transformer as one vector, `[P]` float32."""
    norms, _ = trees.partition(params, transformer.adapted('norm'))
    return np.concatenate([np.asarray(norms[name], np.float32) for name in sorted(norms)])


def predictor_program(
    theta: theta_files.Theta, vgg_params: Params, metadata: Mapping[str, str]
) -> bytes:
    """Writes the program with the input `painting` and the outputs `norms` and `gram1` to `gram4`.

    Args:
        theta: the initialization, with a predictor.
        vgg_params: weights of the loss network. Kernels are stored in float16.
        metadata: name -> text of the metadata to store in the program.

    Returns:
        The contents of an ONNX file. The program maps `[1, H, W, 3]` float32 in 0..1, H and W at
        least 8, to the norms, `[1, P]`, and the Gram matrices of the style layers, `[C, C]`.
    """
    graph = onnx_graph.Graph('float16')
    x = onnx_writing.photographs(graph, 'float32', 'painting')
    mean, std = (
        graph.constant(np.reshape(value, (1, 3, 1, 1)), f'vgg/{name}')
        for name, value in (('mean', vgg.MEAN), ('std', vgg.STD))
    )
    x = graph.node('Sub', [x, mean], 'vgg/centered')
    x = graph.node('Div', [x, std], 'vgg/normalized')
    blocks = itertools.groupby(vgg_weights.LAYERS, key=lambda name: name[: len('conv1')])
    features = []
    for depth, (block, layers) in enumerate(blocks):
        if depth:
            x = graph.node('MaxPool', [x], f'vgg/{block}/pool', kernel_shape=[2, 2], strides=[2, 2])
        for layer in layers:
            x = _vgg_layer(graph, x, vgg_params[layer], f'vgg/{layer}')
        gram, *_ = gram_nodes(graph, x, f'style{depth + 1}')
        shape = graph.constant(
            [vgg_params[layer]['bias'].shape[0]] * 2, f'gram{depth + 1}/shape', np.int64
        )
        graph.node('Reshape', [gram, shape], f'gram{depth + 1}')
        features += _layer_features(graph, x, vgg_params[layer]['bias'].shape[0], block)
    x = graph.node('Concat', features, 'features', axis=1)
    _predicted_norms(graph, x, theta)
    kind = graph.onnx.TensorProto.FLOAT
    tensor = graph.onnx.helper.make_tensor_value_info
    length = to_vector(theta.params).size
    grams = [
        tensor(f'gram{i}', kind, [channels] * 2)
        for i, channels in enumerate(
            (vgg_params[f'conv{j}_1']['bias'].shape[0] for j in range(1, 5)), 1
        )
    ]
    return onnx_writing.to_bytes(
        graph, [tensor('painting', kind, [1, 'height', 'width', 3])],
        [tensor('norms', kind, [1, length]), *grams], metadata,
    )  # fmt: skip


def _vgg_layer(graph: onnx_graph.Graph, x: str, params: Params, name: str) -> str:
    """Appends a convolution with zero padding, and a ReLU."""
    kernel = graph.kernel(params['kernel'], f'{name}/kernel')
    bias = graph.constant(params['bias'], f'{name}/bias')
    x = graph.node(
        'Conv', [x, kernel, bias], name, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4
    )
    return graph.node('Relu', [x], f'{name}/relu')


def _layer_features(graph: onnx_graph.Graph, x: str, channels: int, name: str) -> list[str]:
    """Appends the nodes of `norm_predictor.style_features` for one layer.

    They need only the diagonal of the Gram matrix: the mean square of each channel, divided by
    the number of channels.
    """

    def constant(value: float, what: str) -> str:
        return graph.constant(value, f'{name}/{what}')

    x = graph.node('Mul', [x, x], f'{name}/square')
    x = graph.node('GlobalAveragePool', [x], f'{name}/pooled')
    x = graph.node('Flatten', [x], f'{name}/mean_square', axis=1)
    x = graph.node('Mul', [x, constant(1 / channels, 'share')], f'{name}/energy')
    strength = graph.node('Sqrt', [x], f'{name}/strength')
    mean = graph.node('ReduceMean', [strength], f'{name}/mean_strength', axes=[1], keepdims=1)
    mean = graph.node('Add', [mean, constant(norm_predictor.TINY, 'tiny')], f'{name}/mean')
    x = graph.node('Div', [strength, mean], f'{name}/relative')
    x = graph.node('Add', [x, constant(norm_predictor.FLOOR, 'floor')], f'{name}/raised')
    return [
        graph.node('Log', [x], f'{name}/log_relative'),
        graph.node('Log', [mean], f'{name}/log_mean'),
    ]


def gram_nodes(graph: onnx_graph.Graph, x: str, name: str) -> tuple[str, str, str]:
    """Appends the nodes of `gram.gram` for one image.

    Args:
        graph: the graph to extend.
        x: name of the features, `[1, C, H, W]`.
        name: prefix of the names of the new nodes.

    Returns:
        Names of three tensors: the Gram matrix `[1, C, C]`, the features as `[1, C, H·W]`, and the
        number of elements of the features.
    """
    rows = graph.constant([0, 0, -1], f'{name}/rows', np.int64)
    flat = graph.node('Reshape', [x, rows], f'{name}/flat')
    turned = graph.node('Transpose', [flat], f'{name}/turned', perm=[0, 2, 1])
    size = graph.node('Size', [x], f'{name}/elements')
    count = graph.node('Cast', [size], f'{name}/number', to=graph.onnx.TensorProto.FLOAT)
    products = graph.node('MatMul', [flat, turned], f'{name}/products')
    return graph.node('Div', [products, count], f'{name}/gram'), flat, count


def _predicted_norms(graph: onnx_graph.Graph, features: str, theta: theta_files.Theta) -> str:
    """Appends the layers of the predictor, and adds θ's own instance norms."""
    assert theta.predictor is not None
    predictor = jax.tree.map(np.asarray, theta.predictor)
    kernel = graph.constant(predictor.kernel, 'predictor/kernel')
    x = graph.node('MatMul', [features, kernel], 'predictor/sums')
    x = graph.node('Add', [x, graph.constant(predictor.bias, 'predictor/bias')], 'predictor/hidden')
    x = graph.node('Relu', [x], 'predictor/relu')
    out = np.concatenate([predictor.out[name] for name in sorted(predictor.out)], axis=1)
    x = graph.node('MatMul', [x, graph.constant(out, 'predictor/out')], 'predictor/offsets')
    return graph.node('Add', [x, graph.constant(to_vector(theta.params), 'theta/norms')], 'norms')


def transformer_program(params: Params, metadata: Mapping[str, str]) -> bytes:
    """Writes the program with the inputs `images` and `norms` and the output `stylized`.

    Args:
        params: parameters of the transformer; its instance norms are not used. Its kernels are
            stored in float16 if this changes no value.
        metadata: name -> text of the metadata to store in the program.

    Returns:
        The contents of an ONNX file. The program maps `[N, H, W, 3]` float32 in 0..1, H and W at
        least 16, and `[P]` float32 to stylized images of the shape of the input.
    """
    graph = onnx_graph.Graph(lossless_precision(params))
    norms = norms_of(params)
    axis = graph.constant([0], 'norms/axis', np.int64)
    flat: dict[str, object] = dict(tensor_files.flatten(params))
    for name, offset, length in norms:
        bounds = [
            graph.constant([value], f'{name}/{bound}', np.int64)
            for bound, value in (('from', offset), ('to', offset + length))
        ]
        # Many runtimes on graphics cards limit the number of outputs of a node, so `Slice` is used
        # instead of one `Split`.
        flat[name] = graph.node('Slice', ['norms', *bounds, axis], name)
    photos = onnx_writing.photographs(graph, 'float32')
    stylized = onnx_writing.transformer_nodes(graph, tensor_files.unflatten(flat), photos, None)
    onnx_writing.pixels_out(graph, stylized, 'float32')
    kind = graph.onnx.TensorProto.FLOAT
    tensor = graph.onnx.helper.make_tensor_value_info
    shape = ['batch', 'height', 'width', 3]
    length = sum(norm.length for norm in norms)
    return onnx_writing.to_bytes(
        graph, [tensor('images', kind, shape), tensor('norms', kind, [length])],
        [tensor('stylized', kind, shape)], metadata,
    )  # fmt: skip


def lossless_precision(params: Params) -> str:
    """Returns 'float16' if all 3 × 3 kernels are exact in float16, else 'float32'."""
    kernels = [leaf for leaf in jax.tree.leaves(params) if np.ndim(leaf) == 4]
    with np.errstate(over='ignore'):
        is_exact = all(
            np.array_equal(np.asarray(kernel, np.float16).astype(np.float32), kernel)
            for kernel in kernels
            if math.prod(np.shape(kernel)[:2]) == 9
        )
    return 'float16' if is_exact else 'float32'
