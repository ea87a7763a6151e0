"""Exported styles: the same pixels from onnxruntime, StableHLO and PyTorch as from JAX."""

import importlib
import importlib.util
import json
import sys

import helpers
import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import metastyle_jax
from metastyle_jax.models import transformer
from metastyle_jax.storage import style_files, tensor_files, theta_files
from metastyle_jax.stylization import styled_network
from metastyle_jax.stylization.export import onnx_writing

onnx = pytest.importorskip('onnx', reason='needs the extra onnx')
torch = pytest.importorskip('torch', reason='needs the extra bench')
F = torch.nn.functional
SIZES = [(1, 16, 16), (2, 17, 30), (1, 37, 23)]  # batch, height, width
TOLERANCE = 1e-4


def make_style(theta, seed, adapted='all'):
    """θ moved at random, by as much as adaptation moves it."""
    rng = np.random.default_rng(seed)
    flat = {
        name: array + rng.normal(0, 0.1, array.shape).astype(np.float32)
        for name, array in tensor_files.flatten(theta.params).items()
        if adapted == 'all' or 'norm' in name
    }
    return style_files.Style(flat, adapted, f'{seed}.jpg', 'ab' * 32, theta.fingerprint, {}, {})


@pytest.fixture(scope='module')
def theta(tmp_path_factory):
    params = transformer.init(jax.random.key(0), width=4, blocks=1)
    path = tmp_path_factory.mktemp('theta') / 'theta.safetensors'
    theta_files.save_theta(path, params, settings={})
    return path


@pytest.fixture(scope='module')
def style(theta):
    return make_style(theta_files.load_theta(theta), 1)


@pytest.fixture(scope='module')
def other(theta):
    return make_style(theta_files.load_theta(theta), 2, 'norm')


def noise(size):
    return np.random.default_rng(sum(size)).random((*size, 3), np.float32)


def stylized(images, *arguments, **options):
    return np.stack([metastyle_jax.stylize(*arguments, image, **options) for image in images])


@pytest.fixture(scope='module')
def wanted(style):
    """What JAX makes of each size."""
    return {size: stylized(noise(size), style) for size in SIZES}


@pytest.mark.parametrize('format', ['onnx', 'stablehlo'])
def test_one_program_takes_images_of_any_size_and_number(
    style, wanted, tmp_path, format, disagreement
):
    exported = metastyle_jax.export_style(style, tmp_path / f'a.{format}', check=False)
    assert exported == (tmp_path / f'a.{format}', format, exported.path.stat().st_size, None)
    load = metastyle_jax.load_onnx if format == 'onnx' else metastyle_jax.load_stablehlo
    run = load(exported.path)
    for size in SIZES:
        disagreement(run(noise(size)), wanted[size], TOLERANCE)


def test_an_onnx_file_describes_its_input_and_its_origin(style, tmp_path):
    exported = metastyle_jax.export_style(style, tmp_path / 'a.onnx', check=False)
    model = onnx.load(exported.path)
    onnx.checker.check_model(model, full_check=True)
    (images,), (output,) = model.graph.input, model.graph.output
    assert (images.name, output.name) == ('images', 'stylized')
    for value in (images, output):
        *free, channels = value.type.tensor_type.shape.dim
        assert [dim.dim_param for dim in free] == ['batch', 'height', 'width']
        assert channels.dim_value == 3
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert (metadata['layout'], metadata['channels']) == ('NHWC', 'RGB')
    assert (metadata['range'], metadata['min_side']) == ('0..1', '16')
    assert metadata['theta_sha256'] == style.theta_sha256
    assert metadata['licence'].startswith('Unknown: θ did not come with the package')
    shipped = style._replace(theta_sha256=theta_files.load_theta().fingerprint)
    exported = metastyle_jax.export_style(shipped, tmp_path / 'b.onnx', check=False)
    metadata = {entry.key: entry.value for entry in onnx.load(exported.path).metadata_props}
    assert metadata['licence'].startswith('θ of the package metastyle_jax: Apache-2.0.')
    assert json.loads(metadata['styles']) == [{'name': '1.jpg', 'sha256': 'ab' * 32, 'weight': 1.0}]


@pytest.mark.parametrize('format', ['onnx', 'stablehlo'])
def test_a_program_applies_blend_strength_and_kept_colours(style, other, theta, tmp_path, format):
    look = {
        'theta': theta, 'weights': [0.3, 0.7], 'strength': 0.3, 'keep_colours': True
    }  # fmt: skip
    check = format == 'onnx'  # the graph is written by hand
    exported = metastyle_jax.export_style(
        [style, other], tmp_path / f'a.{format}', pixels='uint8', check=check, **look
    )
    assert exported.difference is None if not check else exported.difference <= 1.01 / 255
    photos = (255 * noise(SIZES[0])).astype(np.uint8)
    wanted = stylized(photos / np.float32(255), [style, other], **look)
    load = metastyle_jax.load_onnx if format == 'onnx' else metastyle_jax.load_stablehlo
    output = load(exported.path)(photos)
    assert output.dtype == np.uint8
    assert np.max(np.abs(output - 255 * wanted)) <= 0.5 + 255 * TOLERANCE
    assert np.max(np.abs(photos - 255 * wanted)) > 20  # the program changes the photographs


def in_torch(flat, architecture, images):
    """Builds the network from nothing but an exported file."""
    weights = {name: torch.tensor(array) for name, array in flat.items()}
    x, inputs, outputs = torch.tensor(images).permute(0, 3, 1, 2), {}, {}
    margin = architecture['margin']
    x = F.pad(x, [margin] * 4, 'reflect')
    for layer in architecture['layers']:
        name, pad = layer['name'], [layer['size'] // 2] * 4
        inputs[name] = x
        if 'upsample_to' in layer:
            height, width = outputs[layer['upsample_to']].shape[2:]
            x = F.interpolate(x, scale_factor=2, mode='nearest')[..., :height, :width]
        prefix = f'{name}/conv' if layer['norm'] else name
        kernel = weights[f'{prefix}/kernel'].permute(3, 2, 0, 1)
        x = F.conv2d(
            F.pad(x, pad, 'reflect'), kernel, weights[f'{prefix}/bias'], stride=layer['stride']
        )
        if layer['norm']:
            scale, bias = weights[f'{name}/norm/scale'], weights[f'{name}/norm/bias']
            x = F.instance_norm(x, weight=scale, bias=bias, eps=architecture['epsilon'])
        if 'add_input_of' in layer:
            x = x + inputs[layer['add_input_of']]
        x = torch.relu(x) if layer['relu'] else x
        x = torch.sigmoid(x) if layer.get('sigmoid') else x
        outputs[name] = x
    return x.permute(0, 2, 3, 1)[:, margin:-margin, margin:-margin].numpy()


def test_pytorch_can_rebuild_the_network_from_the_tensors(
    style, other, theta, wanted, tmp_path, disagreement
):
    exported = metastyle_jax.export_style(style, tmp_path / 'a.safetensors')
    with safetensors.safe_open(exported.path, 'np') as opened:
        metadata = opened.metadata()
    architecture = json.loads(metadata['architecture'])
    flat = safetensors.numpy.load_file(exported.path)
    for size in SIZES:
        disagreement(in_torch(flat, architecture, noise(size)), wanted[size], TOLERANCE)
    merged = metastyle_jax.export_style(other, tmp_path / 'b.safetensors', theta=theta).path
    flat = safetensors.numpy.load_file(merged)
    full = tensor_files.flatten(styled_network.load(other, theta=theta).params)
    assert {name: array.tolist() for name, array in flat.items()} == {
        name: array.tolist() for name, array in full.items()
    }
    with pytest.raises(metastyle_jax.UserError, match='its format is .metastyle_jax.network'):
        style_files.load_style(merged)


# Refusals. ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('name', 'options', 'message'),
    [
        ('a.tflite', {}, 'a.tflite must end in .onnx, .stablehlo, .safetensors'),
        (
            'a.onnx',
            {'format': 'stablehlo'},
            'must end in .stablehlo, the suffix of format=',
        ),
        ('a.onnx', {'format': 'coreml'}, "format='coreml': it must be one of onnx"),
        ('a.onnx', {'pixels': 'float16'}, "pixels='float16': it must be one of float32, uint8"),
        ('no/a.onnx', {}, 'Cannot write .*No such file'),
        ('a.safetensors', {'pixels': 'uint8'}, 'pixels=uint8 needs a program'),
        ('a.safetensors', {'keep_colours': True}, 'keep_colours=True needs a program'),
        ('a.onnx', {'weights': [0.5, 0.5]}, '1 styles need 1 weights'),
    ],
)
def test_invalid_exports_are_refused_and_nothing_is_written(
    style, tmp_path, name, options, message
):
    with pytest.raises(metastyle_jax.UserError, match=message):
        metastyle_jax.export_style(style, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_a_program_that_differs_from_jax_is_not_written(style, tmp_path, monkeypatch):
    real = onnx_writing.to_onnx
    other = lambda look, *arguments, **options: real(
        look._replace(params=jax.tree.map(lambda x: 1.01 * x, look.params)), *arguments, **options
    )
    monkeypatch.setattr(onnx_writing, 'to_onnx', other)
    with pytest.raises(metastyle_jax.UserError, match='differs from JAX by .* is not written'):
        metastyle_jax.export_style(style, tmp_path / 'a.onnx')
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(style, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(metastyle_jax.UserError, match=r"pip install 'metastyle_jax\[onnx\]'"):
        metastyle_jax.export_style(style, tmp_path / 'a.onnx')
    with pytest.raises(metastyle_jax.UserError, match=r"pip install 'metastyle_jax\[onnx\]'"):
        metastyle_jax.load_onnx(tmp_path / 'a.onnx')


def test_programs_refuse_wrong_sizes_types_and_files(style, tmp_path):
    exported = metastyle_jax.export_style(style, tmp_path / 'a.stablehlo', check=False)
    run = metastyle_jax.load_stablehlo(exported.path)
    for images in (
        noise((1, 15, 20)), noise((1, 20, 15)), noise((0, 20, 20)), noise((1, 20, 20))[0],
        noise((1, 20, 20)).astype(np.float64), np.zeros((1, 20, 20, 4), np.float32),
    ):  # fmt: skip
        with pytest.raises(metastyle_jax.UserError, match='H and W at least 16'):
            run(images)
    (tmp_path / 'cut').write_bytes(exported.path.read_bytes()[:1000])
    for load in (metastyle_jax.load_onnx, metastyle_jax.load_stablehlo):
        with pytest.raises(metastyle_jax.UserError, match='cut is no .* export it again'):
            load(tmp_path / 'cut')
        with pytest.raises(metastyle_jax.UserError, match='none cannot be read'):
            load(tmp_path / 'none')


# The command. -------------------------------------------------------------------------------------


def test_the_command_checks_writes_and_logs(style, tmp_path, monkeypatch, capsys, caplog):
    style_files.save_style(tmp_path / 'style.safetensors', style)

    def command(*arguments):
        monkeypatch.setattr(sys, 'argv', ['export', f'--style={tmp_path}/style.safetensors'])
        sys.argv.extend(arguments)
        return helpers.run_command('export')

    out = f'--out={tmp_path}/a.onnx'
    assert command(out) == 0
    messages = [record.message for record in caplog.records if record.levelname != 'DEBUG']
    assert [line.split()[0] for line in messages] == ['differs', 'wrote']
    assert f'{tmp_path}/a.onnx, 0.' in messages[1]
    assert command(out) == 2
    assert 'a.onnx exists already: pass --overwrite' in capsys.readouterr().err
    before = (tmp_path / 'style.safetensors').read_bytes()
    assert command(f'--out={tmp_path}/style.safetensors', '--overwrite') == 2
    assert 'style.safetensors is the style itself' in capsys.readouterr().err
    assert (tmp_path / 'style.safetensors').read_bytes() == before
    assert command() == 2
    assert '--out must be given' in capsys.readouterr().err
