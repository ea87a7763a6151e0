"""The commands that stylize with one of the poster's systems."""

import dataclasses
import sys

import baselines_helpers
import helpers
import jax
import numpy as np
import pytest
from PIL import Image

from metastyle_jax.baselines import systems
from metastyle_jax.baselines.commands import picture_stylization
from metastyle_jax.baselines.commands.system_settings import SystemSettings
from metastyle_jax.baselines.features import encoder_decoder, system_files
from metastyle_jax.core import checks
from metastyle_jax.data.images import image_files


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command in a folder with pictures; returns exit code and error output."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    pictures = (('photo.png', (24, 20)), ('painting.png', (18, 30)), ('wide.png', (20, 200)))
    for name, size in pictures:
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(name)

    def start(name, *words):
        monkeypatch.setattr(sys, 'argv', [f'metastyle {name}', *words])
        return helpers.run_command(name), capsys.readouterr().err

    return start


def test_the_encoders_of_the_flag_are_those_of_the_systems():
    (field,) = (f for f in dataclasses.fields(SystemSettings) if f.name == 'encoder')
    assert checks.words_of(checks.setting_type(field)[0]) == (*encoder_decoder.ENCODERS,)


FILES = ('--style=painting.png', '--input=photo.png', '--output=out.png')


@pytest.mark.parametrize('alpha', ['0.3', None])
def test_a_photograph_is_stylized(run, tmp_path, alpha):
    system, params = baselines_helpers.write_system(tmp_path, 'adain')
    words = [f'--alpha={alpha}'] if alpha else []
    code, error = run(
        'adain', *FILES, '--weights=adain.safetensors', '--vgg=vgg.npz', '--style_size=24', *words
    )
    assert code == 0, error
    painting = picture_stylization.image_inputs.as_rgb(
        'painting.png', name='style',
        target=lambda h, w: picture_stylization.style_image.fit_size(24, h, w),
    )  # fmt: skip
    photo = image_files.read('photo.png').rgb
    expected = systems.stylize(
        system, params, painting, photo[None], alpha=float(alpha) if alpha else 1.0
    )
    found = image_files.read('out.png').rgb
    assert found.shape == photo.shape
    np.testing.assert_allclose(found, expected[0], atol=1 / 255)


@pytest.mark.parametrize('name', ['avatar-net', 'style-swap'])
def test_a_photograph_without_strength_does_not_depend_on_the_style(run, tmp_path, name):
    baselines_helpers.write_system(tmp_path, name)
    words = [f'--weights={name}.safetensors', '--vgg=vgg.npz', '--style_size=24', '--overwrite']
    found = []
    for style, alpha in (('painting.png', 0), ('photo.png', 0), ('painting.png', 1)):
        code, error = run(
            name, f'--style={style}', '--input=photo.png', '--output=out.png', f'--alpha={alpha}',
            *words,
        )  # fmt: skip
        assert code == 0, error
        found.append(image_files.read('out.png').rgb)
    np.testing.assert_array_equal(found[0], found[1])
    assert np.any(found[0] != found[2])


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['--alpha=1.5'], '--alpha=1.5'),
        (['--alpha=nan'], '--alpha=nan'),
        (['--encoder=vgg11'], '--encoder='),
        (['--max_size=8'], '--max_size=8'),
        (['--weights=none.safetensors'], '--weights=none.safetensors'),
        (['--weights=painting.png'], 'painting.png'),
        (['--weights='], '--weights= is empty'),
        (
            ['--input=wide.png', '--max_size=100'],
            '--max_size=100 reduces the photograph to 10 x 100',
        ),
    ],
)
def test_mistakes_are_named(run, words, message, tmp_path):
    code, error = run('wct', *FILES, *words)
    assert code == 2
    assert message in error
    assert 'Traceback' not in error
    assert not (tmp_path / 'out.png').exists()


@pytest.mark.parametrize('name', ['adain', 'avatar-net', 'meta-networks'])
def test_missing_flags_and_existing_files_are_named(run, name):
    code, error = run(name, 'photo.png', '--output=out.png')
    assert code == 2
    assert '--style must be given' in error
    code, error = run(name, 'photo.png', '--style=painting.png', '--output=photo.png')
    assert code == 2
    assert 'photo.png' in error


def test_weights_are_exported_to_a_file_that_stylizes_alike(run, tmp_path):
    baselines_helpers.write_system(tmp_path, 'adain')
    words = ('--weights=adain.safetensors', '--vgg=vgg.npz')
    code, error = run('adain', *words, '--export=half.safetensors')
    assert code == 0, error
    size = {name: (tmp_path / f'{name}.safetensors').stat().st_size for name in ('adain', 'half')}
    assert size['half'] < size['adain']
    found, expected = (
        system_files.load('adain', tmp_path / f'{name}.safetensors', vgg=tmp_path / 'vgg.npz')
        for name in ('half', 'adain')
    )
    assert found.options == expected.options
    for leaf, wanted in zip(
        jax.tree.leaves(found.params), jax.tree.leaves(expected.params), strict=True
    ):
        np.testing.assert_allclose(leaf, wanted, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        ((*FILES, '--weights=a.safetensors'), 'leave --style, --input and --output out'),
        ((), '--weights must be given'),
        (('--weights=photo.png',), 'photo.png'),
    ],
)
def test_mistakes_of_an_export_are_named(run, words, message, tmp_path):
    code, error = run('adain', '--export=out.safetensors', *words)
    assert code == 2
    assert message in error
    assert not (tmp_path / 'out.safetensors').exists()
    code, error = run('adain', '--export=photo.png', '--weights=adain.safetensors')
    assert code == 2
    assert 'must end in .safetensors' in error
