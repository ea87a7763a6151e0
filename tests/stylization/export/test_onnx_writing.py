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
from metastyle_jax.stylization.export import onnx_loading, onnx_writing

onnx = pytest.importorskip('onnx', reason='needs the extra onnx')
PARAMS = transformer.init(jax.random.key(0), width=4, blocks=5)


def model(**options):
    return onnx.load_from_string(onnx_writing.build(PARAMS, {'licence': 'CC0'}, **options))


def test_a_network_of_five_blocks_has_73_nodes_of_ten_operators():
    found = model()
    counts = collections.Counter(node.op_type for node in found.graph.node)
    assert counts == {
        'Pad': 17, 'Conv': 16, 'InstanceNormalization': 15, 'Relu': 10, 'Add': 5, 'Slice': 3,
        'Resize': 2, 'Shape': 2, 'Transpose': 2, 'Sigmoid': 1,
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
        ({'precision': 'int8'}, 0.1),
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


def test_smaller_precisions_make_smaller_files():
    params = transformer.init(jax.random.key(0), width=16, blocks=2)
    sizes = {
        precision: len(onnx_writing.build(params, {}, precision=precision))
        for precision in onnx_writing.PRECISIONS
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


def test_the_difference_of_rounded_kernels_is_told(style, tmp_path):
    differences = [
        metastyle_jax.export_style(
            style, tmp_path / f'{precision}.onnx', precision=precision
        ).difference
        for precision in onnx_writing.PRECISIONS
    ]
    assert differences[0] < 1e-5 < differences[1] < differences[2] < 0.2
    stored = {prop.key: prop.value for prop in onnx.load(tmp_path / 'int8.onnx').metadata_props}
    assert json.loads(stored['styles'])[0]['name'] == 'x'


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'size': (8, 32)}, 'size=8: it must be a whole number of at least 16'),
        ({'size': (32,)}, 'it must be a height and a width'),
        ({'precision': 'int4'}, "precision='int4': it must be one of float32, float16, int8"),
    ],
)
def test_senseless_options_are_refused(style, tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        metastyle_jax.export_style(style, tmp_path / 'x.onnx', **options)
    assert not (tmp_path / 'x.onnx').exists()


@pytest.mark.parametrize('options', [{'size': (32, 32)}, {'precision': 'int8'}])
def test_options_of_onnx_are_refused_for_other_formats(style, tmp_path, options):
    with pytest.raises(UserError, match='is for ONNX programs only'):
        metastyle_jax.export_style(style, tmp_path / 'x.stablehlo', **options)
