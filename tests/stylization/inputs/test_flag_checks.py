"""Words of --style with commas."""

import helpers
import pytest
from absl import flags
from stylization_helpers import make_style

from metastyle_jax.storage import style_files
from metastyle_jax.stylization import command
from metastyle_jax.stylization.inputs import flag_checks


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('a.png', 'b.png', 'one, two.png'):
        helpers.write_image(tmp_path / name)
    style_files.save_style('s.safetensors', make_style(1))


@pytest.mark.parametrize(
    ('words', 'styles'),
    [
        (['a.png,b.png'], ['a.png', 'b.png']),
        (['a.png, s.safetensors', 'b.png'], ['a.png', 's.safetensors', 'b.png']),
        (['s.safetensors:x,s.safetensors:y'], ['s.safetensors:x', 's.safetensors:y']),
        (['a.png,missing.jpg'], ['a.png', 'missing.jpg']),
        (['one, two.png'], ['one, two.png']),
        (['s.safetensors:boats, 1890.jpg'], ['s.safetensors:boats, 1890.jpg']),
        (['no,styles'], ['no,styles']),
        (['a.png,'], ['a.png,']),
        ([], []),
    ],
)
def test_words_are_split_only_between_styles(words, styles):
    values = flags.FlagValues()
    command.define_flags(values)
    values(['x', *(f'--style={word}' for word in words)])
    flag_checks.split_styles(values)
    assert (values.style or []) == styles
