"""The ONNX graph: small, named after the layers, in every precision, of any size or a fixed one."""

import collections
import json

import jax
import numpy as np
import pytest

import metastyle_jax
from metastyle_jax.core.errors import UserError
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, tensor_files
from metastyle_jax.stylization.export import onnx_graph, onnx_loading, onnx_writing

onnx = pytest.importorskip('onnx', reason='needs the extra onnx')
PARAMS = transformer.init(jax.random.key(0), width=4, blocks=5)


def model(**options):
    return onnx.load_from_string(onnx_writing.build(PARAMS, {'licence': 'CC0'}, **options))


@pytest.mark.parametrize(
    ('size', 'more'),
    [
        (None, {'Slice': 5, 'Shape': 2}),
        ((32, 48), {'Slice': 1}),
        ((33, 48), {'Slice': 3}),
    ],
)
def test_a_network_of_five_blocks_has_at_most_75_nodes_of_ten_operators(size, more):
    found = model(size=size)
    counts = collections.Counter(node.op_type for node in found.graph.node)
    assert counts == {
        'Pad': 17, 'Conv': 16, 'InstanceNormalization': 15, 'Relu': 10, 'Add': 5, 'Resize': 2,
        'Transpose': 2, 'Sigmoid': 1, **more,
    }  # fmt: skip
    assert not found.graph.value_info
    assert {prop.key: prop.value for prop in found.metadata_props} == {'licence': 'CC0'}


def test_kernels_are_stored_as_onnx_wants_them_and_named_after_the_layers():
    tensors = {tensor.name: tensor for tensor in model().graph.initializer}
    kernel = onnx.numpy_helper.to_array(tensors['block1/first/conv/kernel'])
    expected = np.asarray(PARAMS['block1']['first']['conv']['kernel'])
    np.testing.assert_array_equal(kernel, expected.transpose(3, 2, 0, 1))
    names = [node.name for node in model().graph.node]
    assert len(set(names)) == len(names)
    assert {'down1/conv', 'block5/second/norm', 'up2/double', 'out'} <= set(names)


@pytest.mark.parametrize(
    ('options', 'tolerance'),
    [
        ({}, 1e-5),
        ({'strength': 0.3}, 1e-5),
        ({'keep_colours': True}, 1e-5),
        ({'precision': 'float16'}, 2e-3),
        ({'precision': 'int8'}, 0.05),
    ],
)
@pytest.mark.parametrize('shape', [(1, 16, 17), (2, 33, 40), (1, 47, 18)])
def test_the_graph_computes_what_jax_computes(options, tolerance, shape):
    images = np.random.default_rng(0).random((*shape, 3), np.float32)
    run = onnx_loading.load_onnx(onnx_writing.build(PARAMS, {}, **options))
    expected = np.asarray(transformer.apply_with_margin(PARAMS, images))
    if 'strength' in options:
        expected = images + 0.3 * (expected - images)
    if 'keep_colours' in options:
        luma = np.array([0.299, 0.587, 0.114])
        change = ((expected - images) * luma).sum(-1, keepdims=True)
        expected = np.clip(images + change, 0, 1)
    np.testing.assert_allclose(run(images), expected, atol=tolerance)


@pytest.mark.parametrize('size', [(16, 16), (17, 30), (2, 38, 23)])
@pytest.mark.parametrize('pixels', ['float32', 'uint8'])
def test_a_graph_of_a_fixed_size_computes_what_the_graph_of_any_size_computes(size, pixels):
    images = np.random.default_rng(0).integers(0, 256, (2, *size[-2:], 3), np.uint8)
    if pixels == 'float32':
        images = images.astype(np.float32) / 255
    run = [
        onnx_loading.load_onnx(onnx_writing.build(PARAMS, {}, size=each, pixels=pixels))
        for each in (size, None)
    ]
    np.testing.assert_allclose(run[0](images), run[1](images), atol=1e-6)
    for other in (images[:, 1:], images[:, :, 1:], images[:, :15]):
        with pytest.raises(UserError, match=rf'{size[-2]}, {size[-1]}, 3\] is needed$'):
            run[0](other)


@pytest.mark.parametrize('size', [None, (32, 48), (1, 33, 47)])
@pytest.mark.parametrize('pixels', ['float32', 'uint8'])
@pytest.mark.parametrize('precision', onnx_graph.PRECISIONS)
@pytest.mark.parametrize('look', [{}, {'strength': 0.3, 'keep_colours': True}])
def test_checks_and_strict_shape_inference_pass(size, pixels, precision, look):
    made = model(size=size, pixels=pixels, precision=precision, **look)
    onnx.checker.check_model(made, full_check=True)
    assert (made.ir_version, [(o.domain, o.version) for o in made.opset_import]) == (7, [('', 13)])
    inferred = onnx.shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)
    if size is not None:  # every size in the graph is a number, apart from that of the batch
        dims = [
            dim.dim_value
            for value in inferred.graph.value_info
            for dim in value.type.tensor_type.shape.dim[1:]
        ]
        assert len(dims) > 150
        assert all(dims)


def test_names_of_nodes_and_tensors_begin_with_a_layer():
    graph = model(precision='int8').graph
    layers = {*PARAMS, 'margin', 'photos', 'stylized'}
    for named in (*graph.node, *graph.initializer):
        assert named.name.split('/')[0] in layers
    assert all(node.output == [node.name] for node in graph.node)


# A program of float16 kernels computes in float32. Other programs may convert it to compute in
# float16 altogether; then sums over pixels, and squares of what has a large mean, might overflow.
EXTREMES = {
    'white': np.ones((64, 64)),
    'black': np.zeros((64, 64)),
    'checkerboard': np.indices((64, 64)).sum(0) % 2,
    'stripes': np.indices((64, 64))[1] // 8 % 2,
    'one pixel': np.eye(64) * (np.arange(64) == 31),
}


@pytest.mark.parametrize('name', EXTREMES)
@pytest.mark.parametrize('precision', onnx_graph.PRECISIONS)
def test_extreme_pictures_stay_finite_and_near(name, precision):
    images = np.repeat(EXTREMES[name].astype(np.float32)[None, :, :, None], 3, axis=3)
    made = onnx_loading.load_onnx(onnx_writing.build(PARAMS, {}, precision=precision))(images)
    expected = np.asarray(transformer.apply_with_margin(PARAMS, images))
    atol = {'float32': 1e-5, 'float16': 2e-3, 'int8': 0.1}[precision]
    np.testing.assert_allclose(made, expected, atol=atol)  # NaN is never near


def test_kernels_of_the_first_and_the_last_layer_are_never_rounded():
    for precision in onnx_graph.PRECISIONS:
        tensors = {tensor.name for tensor in model(precision=precision).graph.initializer}
        assert {'down1/conv/kernel', 'out/kernel'} <= tensors
        assert ('down2/conv/kernel' in tensors) == (precision == 'float32')


def test_smaller_precisions_make_smaller_files():
    params = transformer.init(jax.random.key(0), width=16, blocks=2)
    sizes = {
        precision: len(onnx_writing.build(params, {}, precision=precision))
        for precision in onnx_graph.PRECISIONS
    }
    assert sizes['float16'] < 0.55 * sizes['float32']
    assert sizes['int8'] < 0.3 * sizes['float32']


@pytest.fixture
def style(tmp_path):
    path = tmp_path / 'style.safetensors'
    made = style_files.Style(
        params=tensor_files.flatten(PARAMS), adapted='all', style_name='x', style_sha256='0',
        theta_sha256='0', settings={}, losses={'total': [1.0]},
    )  # fmt: skip
    style_files.save_style(path, made)
    return path


def test_a_program_of_a_fixed_size_says_so(style, tmp_path):
    exported = metastyle_jax.export_style(style, tmp_path / 'x.onnx', size=(48, 32))
    assert exported.difference < 1e-4
    (images,) = onnx.load(exported.path).graph.input
    dims = images.type.tensor_type.shape.dim
    assert [dim.dim_value or dim.dim_param for dim in dims] == ['batch', 48, 32, 3]
    exported = metastyle_jax.export_style(style, tmp_path / 'y.onnx', size=(2, 18, 21))
    assert exported.difference < 1e-4
    (images,) = onnx.load(exported.path).graph.input
    assert [dim.dim_value for dim in images.type.tensor_type.shape.dim] == [2, 18, 21, 3]


def test_the_difference_of_rounded_kernels_is_told(style, tmp_path):
    differences = [
        metastyle_jax.export_style(
            style, tmp_path / f'{precision}.onnx', precision=precision
        ).difference
        for precision in onnx_graph.PRECISIONS
    ]
    assert differences[0] < 1e-5 < differences[1] < differences[2] < 0.2
    stored = {prop.key: prop.value for prop in onnx.load(tmp_path / 'int8.onnx').metadata_props}
    assert json.loads(stored['styles'])[0]['name'] == 'x'


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'size': (8, 32)}, 'size=8: it must be a whole number of at least 16'),
        ({'size': (32, 8)}, 'size=8: it must be a whole number of at least 16'),
        ({'size': (0, 32, 32)}, 'size=0: it must be a whole number of at least 1'),
        ({'size': (32.0, 32)}, 'size=32.0: it must be a whole number'),
        ({'size': (32,)}, 'it must be a height and a width'),
        ({'size': (1, 1, 32, 32)}, 'it must be a height and a width, or a batch size, a height'),
        ({'size': '32x32'}, "size='32x32': it must be a height and a width"),
        ({'size': 32}, 'size=32: it must be a height and a width'),
        ({'size': (10**5, 10**5)}, 'more memory than most machines have'),
        ({'precision': 'int4'}, "precision='int4': it must be one of float32, float16, int8"),
    ],
)
def test_senseless_options_are_refused(style, tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        metastyle_jax.export_style(style, tmp_path / 'x.onnx', **options)
    assert not (tmp_path / 'x.onnx').exists()


@pytest.mark.parametrize(
    ('options', 'suffix', 'words'),
    [
        ({'precision': 'int8'}, 'stablehlo', 'precision= is for ONNX programs only'),
        ({'precision': 'float16'}, 'safetensors', 'precision= is for ONNX programs only'),
        ({'size': (32, 32)}, 'safetensors', 'size= is for programs only'),
    ],
)
def test_options_are_refused_for_formats_without_them(style, tmp_path, options, suffix, words):
    with pytest.raises(UserError, match=words):
        metastyle_jax.export_style(style, tmp_path / f'x.{suffix}', **options)
    assert not (tmp_path / f'x.{suffix}').exists()
