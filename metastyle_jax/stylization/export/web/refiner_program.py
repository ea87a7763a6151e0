"""An ONNX program that takes one gradient step of an adaptation, at the learned rates of θ.

    n' = n − r_t · ∇ log ℓ(n),    ℓ: the perceptual loss of one photograph and one painting

n are the instance norms, and r_t are the rates of step t. If θ was trained without the logarithm,
∇ℓ replaces ∇ log ℓ. `metastyle stylize` takes the same steps for a painting as the style.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from metastyle_jax.core import loss_weights
from metastyle_jax.core.types import Params
from metastyle_jax.models import perceptual_loss, transformer, vgg, vgg_weights
from metastyle_jax.storage import tensor_files, theta_files
from metastyle_jax.stylization.export import onnx_writing
from metastyle_jax.stylization.export.web import norm_programs
from metastyle_jax.stylization.export.web.reverse_mode import Tape

LEAST_SIDE = 32  # least height and width of a photograph; both are multiples of 8


def learned_rates(theta: theta_files.Theta) -> np.ndarray | None:
    """Returns the learned rates of the instance norms of θ for each step, `[T, P]`.

    None if some instance norms have no learned rates, or if the inner optimizer of θ is not SGD.
    """
    inner = theta.settings.get('inner', {})
    norms = norm_programs.norms_of(theta.params)
    rates = theta.rates or {}
    if inner.get('optimizer', 'sgd') != 'sgd' or any(norm.name not in rates for norm in norms):
        return None
    steps = int(inner.get('steps', 1))
    rows = []
    for name, _, length in norms:
        rate = np.asarray(rates[name], np.float32)
        rate = rate if rate.ndim == 2 else rate[None]
        rate = rate.reshape(len(rate), -1)
        indices = np.minimum(np.arange(steps), len(rate) - 1)
        rows.append(np.broadcast_to(rate[indices], (steps, length)))
    return np.concatenate(rows, axis=1)


def refiner_program(
    theta: theta_files.Theta, rates: np.ndarray, vgg_params: Params, metadata: Mapping[str, str]
) -> bytes:
    """Writes the program as an ONNX file.

    Args:
        theta: the initialization.
        rates: learned rates, from `learned_rates`.
        vgg_params: weights of the loss network. Kernels are stored in float16.
        metadata: name -> text of the metadata to store in the program.

    Returns:
        The contents of an ONNX file. Its inputs are `photo`, `[1, H, W, 3]` float32 in 0..1, with H
        and W at least 32 and multiples of 8; `norms`, `[P]`; `gram1` to `gram4`, the Gram matrices
        of the painting, from the program `predictor`; and `step`, `[1]` int64, from 0. Its outputs
        are `next`, the norms after the step, and `loss`, `[1]`, the loss before the step.
    """
    tape = Tape(norm_programs.lossless_precision(theta.params))
    inputs = _inputs(tape, theta.params, vgg_params)
    photo = onnx_writing.photographs(tape, 'float32', 'photo')
    params = _with_norm_inputs(tape, theta.params)
    stylized = _transformer(tape, params, photo)
    tape.precision = 'float16'
    wanted = _vgg(tape, vgg_params, photo, 'photo', last='conv2_2')[perceptual_loss.CONTENT_LAYER]
    features = _vgg(tape, vgg_params, stylized, 'vgg')
    parts = [_content_loss(tape, features[perceptual_loss.CONTENT_LAYER], wanted)]
    parts += [_style_loss(tape, layer, f'gram{i + 1}') for i, layer in enumerate(features)]
    tape.node('Sum', parts, 'loss')
    tape.backward()
    gradient = tape.node(
        'Concat', [_norm_gradient(tape, norm) for norm in norm_programs.norms_of(theta.params)],
        'gradient', axis=0,
    )  # fmt: skip
    if theta.settings.get('inner', {}).get('log_loss', False):
        gradient = tape.node('Div', [gradient, 'loss'], 'log_gradient')
    rows = tape.constant(rates, 'rates')
    axis = tape.constant([0], 'rates/axis', np.int64)
    row = tape.node('Squeeze', [tape.node('Gather', [rows, 'step'], 'rates/row'), axis], 'rate')
    tape.node('Sub', ['norms', tape.node('Mul', [row, gradient], 'update')], 'next')
    value = tape.onnx.helper.make_tensor_value_info
    kind = tape.onnx.TensorProto.FLOAT
    outputs = [value('next', kind, [rates.shape[1]]), value('loss', kind, [1])]
    return onnx_writing.to_bytes(tape, inputs, outputs, metadata)


def _inputs(tape: Tape, params: Params, vgg_params: Params) -> list[Any]:
    """Declares the inputs of the program, with types and shapes."""
    value, proto = tape.onnx.helper.make_tensor_value_info, tape.onnx.TensorProto
    length = norm_programs.to_vector(params).size
    widths = [vgg_params[f'conv{i}_1']['bias'].shape[0] for i in range(1, 5)]
    return [
        value('photo', proto.FLOAT, [1, 'height', 'width', 3]),
        value('norms', proto.FLOAT, [length]),
        *(value(f'gram{i + 1}', proto.FLOAT, [c, c]) for i, c in enumerate(widths)),
        value('step', proto.INT64, [1]),
    ]


def _with_norm_inputs(tape: Tape, params: Params) -> dict[str, Any]:
    """Replaces the instance norms of θ by slices of the input `norms`, each `[1, C, 1, 1]`."""
    flat: dict[str, Any] = dict(tensor_files.flatten(params))
    axis = tape.constant([0], 'norms/axis', np.int64)
    for name, offset, length in norm_programs.norms_of(params):
        bounds = [
            tape.constant([value], f'{name}/{bound}', np.int64)
            for bound, value in (('from', offset), ('to', offset + length))
        ]
        part = tape.node('Slice', ['norms', *bounds, axis], f'{name}/part')
        shape = tape.constant([1, length, 1, 1], f'{name}/shape', np.int64)
        flat[name] = tape.node('Reshape', [part, shape], name)
    return tensor_files.unflatten(flat)


def _norm_gradient(tape: Tape, norm: norm_programs.Norm) -> str:
    """Returns the gradient of one scale or bias as a vector `[C]`."""
    # The bias of the second norm of a block has no effect, see `transformer`: its exact gradient
    # is zero, and the computed gradient would be rounding noise.
    if norm.name.endswith('second/norm/bias'):
        return tape.constant(np.zeros(norm.length), f'{norm.name}/zero')
    shape = tape.constant([norm.length], f'{norm.name}/length', np.int64)
    return tape.node('Reshape', [tape.gradients[norm.name], shape], f'{norm.name}/flat')


def _transformer(tape: Tape, params: Params, photo: str) -> str:
    """Appends the layers of `transformer.apply`."""

    def layer(x: str, own: Params, name: str, *, stride: int = 1, relu: bool = True) -> str:
        margin = np.shape(own['conv']['kernel'])[0] // 2
        x = tape.reflected(x, margin, f'{name}/reflect')
        x = tape.plain_convolution(x, own['conv'], f'{name}/conv', stride=stride)
        x = tape.instance_norm(x, own['norm']['scale'], own['norm']['bias'], f'{name}/norm')
        return tape.relu(x, f'{name}/relu') if relu else x

    x = layer(photo, params['down1'], 'down1')
    x = layer(x, params['down2'], 'down2', stride=2)
    x = layer(x, params['down3'], 'down3', stride=2)
    for i in range(1, transformer.width_and_blocks(params)[1] + 1):
        name, block = f'block{i}', params[f'block{i}']
        hidden = layer(x, block['first'], f'{name}/first')
        x = tape.add(x, layer(hidden, block['second'], f'{name}/second', relu=False), name)
    for name in ('up1', 'up2'):
        x = layer(tape.doubled(x, f'{name}/double'), params[name], name)
    margin = np.shape(params['out']['kernel'])[0] // 2
    x = tape.reflected(x, margin, 'out/reflect')
    return tape.sigmoid(tape.plain_convolution(x, params['out'], 'out'), 'out/sigmoid')


def _vgg(tape: Tape, params: Params, images: str, prefix: str, *, last: str = '') -> list[str]:
    """Appends VGG-16 up to the layer `last`; returns the names of the outputs of its blocks."""
    mean, std = (
        tape.constant(np.reshape(value, (1, 3, 1, 1)), f'{prefix}/{name}')
        for name, value in (('mean', -np.asarray(vgg.MEAN)), ('std', vgg.STD))
    )
    x = tape.divide(tape.add(images, mean, f'{prefix}/centered'), std, f'{prefix}/normalized')
    outputs: list[str] = []
    block = 'conv1'
    for name in vgg_weights.LAYERS:
        if not name.startswith(block):
            outputs.append(x)
            block = name[: len(block)]
            x = tape.max_pool(x, f'{prefix}/{block}/pool')
        x = tape.plain_convolution(x, params[name], f'{prefix}/{name}', pad=1)
        x = tape.relu(x, f'{prefix}/{name}/relu')
        if name == last:
            break
    return [*outputs, x]


def _count(tape: Tape, x: str, name: str) -> str:
    """Appends nodes that compute the number of elements of a tensor, as float32."""
    size = tape.node('Size', [x], f'{name}/size')
    return tape.node('Cast', [size], f'{name}/count', to=tape.onnx.TensorProto.FLOAT)


def _mean_square(tape: Tape, change: str, weight: float, name: str) -> tuple[str, str]:
    """Appends weight · mean(change²) and its gradient with respect to `change`."""
    square = tape.node('Mul', [change, change], f'{name}/square')
    total = tape.node('ReduceSum', [square], f'{name}/total', keepdims=0)
    one = tape.constant([1], f'{name}/one', np.int64)
    total = tape.node('Reshape', [total, one], f'{name}/sum')
    count = _count(tape, change, name)
    share = tape.node('Div', [tape.constant([weight], f'{name}/weight'), count], f'{name}/share')
    loss = tape.node('Mul', [total, share], f'{name}/loss')
    twice = tape.node('Add', [share, share], f'{name}/twice')
    return loss, tape.node('Mul', [change, twice], f'{name}/gradient')


def _content_loss(tape: Tape, features: str, wanted: str) -> str:
    """Appends the content loss."""
    change = tape.node('Sub', [features, wanted], 'content/change')
    loss, gradient = _mean_square(tape, change, loss_weights.CONTENT_WEIGHT, 'content')
    tape.add_gradient(features, gradient)
    return loss


def _style_loss(tape: Tape, features: str, wanted: str) -> str:
    """Appends the style loss of one layer."""
    name = f'style/{wanted}'
    gram, flat, count = norm_programs.gram_nodes(tape, features, name)
    change = tape.node('Sub', [gram, wanted], f'{name}/change')
    loss, gradient = _mean_square(tape, change, loss_weights.STYLE_WEIGHT, name)
    # The Gram matrix is F Fᵀ / count. Its gradient D is symmetric, so that of F is 2 D F / count.
    product = tape.node('MatMul', [gradient, flat], f'{name}/product')
    both = tape.node('Add', [product, product], f'{name}/both')
    divided = tape.node('Div', [both, count], f'{name}/divided')
    shape = tape.node('Shape', [features], f'{name}/shape')
    tape.add_gradient(features, tape.node('Reshape', [divided, shape], f'{name}/back'))
    return loss
