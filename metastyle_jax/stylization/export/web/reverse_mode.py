"""ONNX layers with their gradients, for programs that take gradient steps.

ONNX has no automatic differentiation. So each method of `Tape` appends the nodes of a layer and
stores a function for its gradient. `Tape.backward` then appends the nodes of the gradients, from
the last layer to the first. The batch has one image, whose height and width are multiples of 8.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from metastyle_jax.models import layers
from metastyle_jax.stylization.export import onnx_graph


class Tape(onnx_graph.Graph):
    """A graph that records its layers for reverse-mode differentiation.

    Args:
        precision: how 3 × 3 kernels are stored, see `onnx_graph.Graph`.

    Attributes:
        gradients: name of a tensor -> name of the gradient with respect to it, once known.
    """

    def __init__(self, precision: str) -> None:
        super().__init__(precision)
        self.gradients: dict[str, str] = {}
        self._layers: list[tuple[str, Callable[[str], None]]] = []

    def backward(self) -> None:
        """Appends the gradients of the loss; call `add_gradient` for its inputs before."""
        for output, pass_back in reversed(self._layers):
            if output in self.gradients:
                pass_back(self.gradients[output])

    def add_gradient(self, x: str, gradient: str) -> None:
        """Adds a term to the gradient with respect to a tensor."""
        if x in self.gradients:
            gradient = self.node('Add', [self.gradients[x], gradient], f'{gradient}/sum')
        self.gradients[x] = gradient

    def _remember(self, output: str, pass_back: Callable[[str], None]) -> str:
        self._layers.append((output, pass_back))
        return output

    def _integers(self, values: list[int], name: str) -> str:
        return self.constant(values, name, np.int64)

    def relu(self, x: str, name: str) -> str:
        """Appends a ReLU."""
        y = self.node('Relu', [x], name)

        def pass_back(g: str) -> None:
            sign = self.node('Sign', [y], f'{name}/sign')
            self.add_gradient(x, self.node('Mul', [g, sign], f'{name}/back'))

        return self._remember(y, pass_back)

    def sigmoid(self, x: str, name: str) -> str:
        """Appends a sigmoid: its derivative is y − y²."""
        y = self.node('Sigmoid', [x], name)

        def pass_back(g: str) -> None:
            square = self.node('Mul', [y, y], f'{name}/square')
            slope = self.node('Sub', [y, square], f'{name}/slope')
            self.add_gradient(x, self.node('Mul', [g, slope], f'{name}/back'))

        return self._remember(y, pass_back)

    def add(self, x: str, y: str, name: str) -> str:
        """Appends a sum of two tensors."""

        def pass_back(g: str) -> None:
            self.add_gradient(x, g)
            self.add_gradient(y, g)

        return self._remember(self.node('Add', [x, y], name), pass_back)

    def divide(self, x: str, divisor: str, name: str) -> str:
        """Appends a division by a constant tensor."""

        def pass_back(g: str) -> None:
            self.add_gradient(x, self.node('Div', [g, divisor], f'{name}/back'))

        return self._remember(self.node('Div', [x, divisor], name), pass_back)

    def plain_convolution(
        self, x: str, params: Mapping[str, Any], name: str, *, pad: int = 0, stride: int = 1
    ) -> str:
        """Appends a convolution with zero padding."""
        kernel = self.kernel(params['kernel'], f'{name}/kernel')
        bias = self.constant(params['bias'], f'{name}/bias')
        options = {
            'kernel_shape': list(np.shape(params['kernel'])[:2]),
            'strides': [stride, stride],
            'pads': [pad] * 4,
        }
        y = self.node('Conv', [x, kernel, bias], name, **options)

        def pass_back(g: str) -> None:
            # At stride 2 with an even number of rows, no output reads the last row.
            more = {'output_padding': [1, 1]} if stride == 2 else {}
            back = self.node('ConvTranspose', [g, kernel], f'{name}/back', **options, **more)
            self.add_gradient(x, back)

        return self._remember(y, pass_back)

    def reflected(self, x: str, margin: int, name: str) -> str:
        """Extends an image by reflection on all four sides."""

        def pass_back(g: str) -> None:
            for axis in (2, 3):
                g = self._fold(g, margin, axis, f'{name}/back{axis}')
            self.add_gradient(x, g)

        return self._remember(self.reflect(x, margin, name), pass_back)

    def _fold(self, g: str, margin: int, axis: int, name: str) -> str:
        """Adds the margins of a gradient to the pixels that they reflect."""
        last = -(2**31)

        def part(begin: int, end: int, what: str, step: int = 1) -> str:
            bounds = [
                self._integers([value], f'{name}/{what}/{bound}')
                for bound, value in (('from', begin), ('to', end), ('axis', axis), ('step', step))
            ]
            return self.node('Slice', [g, *bounds], f'{name}/{what}')

        m = margin
        before = part(m - 1, last, 'before', -1)
        after = part(-1, -m - 1, 'after', -1)
        inside = part(m + 1, 2 * m + 1, 'first')
        opposite = part(-2 * m - 1, -m - 1, 'last')
        pieces = [
            part(m, m + 1, 'edge'),
            self.node('Add', [inside, before], f'{name}/first_sum'),
            part(2 * m + 1, -2 * m - 1, 'middle'),
            self.node('Add', [opposite, after], f'{name}/last_sum'),
            part(-m - 1, -m, 'other_edge'),
        ]
        return self.node('Concat', pieces, name, axis=axis)

    def instance_norm(self, x: str, scale: str, bias: str, name: str) -> str:
        """Appends an instance norm; scale and bias are `[1, C, 1, 1]`."""

        def mean(of: str, what: str) -> str:
            return self.node('ReduceMean', [of], f'{name}/{what}', axes=[2, 3], keepdims=1)

        centered = self.node('Sub', [x, mean(x, 'mean')], f'{name}/centered')
        square = self.node('Mul', [centered, centered], f'{name}/square')
        epsilon = self.constant(layers.EPSILON, f'{name}/epsilon')
        raised = self.node('Add', [mean(square, 'variance'), epsilon], f'{name}/raised')
        deviation = self.node('Sqrt', [raised], f'{name}/deviation')
        normal = self.node('Div', [centered, deviation], f'{name}/normal')
        scaled = self.node('Mul', [normal, scale], f'{name}/scaled')
        y = self.node('Add', [scaled, bias], name)

        def pass_back(g: str) -> None:
            weighted = self.node('Mul', [g, normal], f'{name}/weighted')
            axes = self._integers([2, 3], f'{name}/axes')
            for leaf, of in ((scale, weighted), (bias, g)):
                total = self.node('ReduceSum', [of, axes], f'{leaf}/gradient', keepdims=1)
                self.add_gradient(leaf, total)
            shift = self.node('Sub', [g, mean(g, 'gradient_mean')], f'{name}/shifted')
            along = self.node('Mul', [normal, mean(weighted, 'weighted_mean')], f'{name}/along')
            rest = self.node('Sub', [shift, along], f'{name}/rest')
            factor = self.node('Div', [scale, deviation], f'{name}/factor')
            self.add_gradient(x, self.node('Mul', [rest, factor], f'{name}/back'))

        return self._remember(y, pass_back)

    def doubled(self, x: str, name: str) -> str:
        """Doubles height and width by nearest neighbours."""
        y = self._double(x, name)

        def pass_back(g: str) -> None:
            pooled = self.node(
                'AveragePool', [g], f'{name}/pooled', kernel_shape=[2, 2], strides=[2, 2]
            )
            four = self.constant(4, f'{name}/four')
            self.add_gradient(x, self.node('Mul', [pooled, four], f'{name}/back'))

        return self._remember(y, pass_back)

    def _double(self, x: str, name: str) -> str:
        scales = self.constant([1, 1, 2, 2], f'{name}/scales')
        return self.node(
            'Resize', [x, '', scales], name, mode='nearest',
            coordinate_transformation_mode='asymmetric', nearest_mode='floor',
        )  # fmt: skip

    def max_pool(self, x: str, name: str) -> str:
        """Takes the maximum of each square of 2 × 2 pixels."""
        y = self.node('MaxPool', [x], name, kernel_shape=[2, 2], strides=[2, 2])

        def pass_back(g: str) -> None:
            largest = self.node('Equal', [x, self._double(y, f'{name}/doubled')], f'{name}/largest')
            mask = self.node('Cast', [largest], f'{name}/mask', to=self.onnx.TensorProto.FLOAT)
            spread = self._double(g, f'{name}/spread')
            self.add_gradient(x, self.node('Mul', [spread, mask], f'{name}/back'))

        return self._remember(y, pass_back)
