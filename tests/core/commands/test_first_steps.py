"""The commands that would have worked."""

import helpers
import pytest

from metastyle_jax import __main__
from metastyle_jax.core.commands import first_steps


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['painting.jpg', 'photo.jpg'],
         ['stylize photo.jpg --style=painting.jpg -o out.png']),
        (['photo.jpg', 'painting.jpg'], ['stylize photo.jpg --style=painting.jpg']),
        (['x.png', 'y.png'], ['stylize y.png --style=x.png']),
        (['photo.jpg'],
         ['adapt photo.jpg', 'stylize photo.jpg --style=painting.safetensors -o out.png']),
        (['photo.jpg', 's.safetensors'], ['stylize photo.jpg --style=s.safetensors -o out.png']),
        (['s.safetensors'], ['stylize photo.jpg --style=s.safetensors -o out.png']),
        (['photo.jpg', '--style=s.safetensors', '-o', 'my out.png'],
         ["stylize photo.jpg --style=s.safetensors -o 'my out.png'"]),
        (['--style=s.safetensors', 'photo.jpg'], ['stylize --style=s.safetensors photo.jpg']),
        (['folder'], ['stylize folder --style=painting.safetensors -o stylized/']),
        (['--verbose'], ['it must be one of stylize, ']),
        (['xyz', 'photo.jpg'], ['it must be one of stylize, ']),
    ],
)  # fmt: skip
def test_who_leaves_the_command_out_is_told_the_whole_line(
    words, told, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'folder').mkdir()
    helpers.write_image(tmp_path / 'photo.jpg')
    assert __main__.main(['metastyle', *words]) == 2
    error = capsys.readouterr().err
    for text in told:
        assert text in error


@pytest.mark.parametrize(
    ('one', 'other', 'painting'),
    [
        ('a.jpg', 'b.jpg', 'a.jpg'), ('photo.jpg', 'b.jpg', 'b.jpg'),
        ('IMG_3.jpg', 'x.jpg', 'x.jpg'),
        ('a.jpg', 'gogh.jpg', 'gogh.jpg'), ('style.png', 'content.png', 'style.png'),
    ],
)  # fmt: skip
def test_the_painting_is_guessed_by_its_name(one, other, painting):
    assert first_steps.painting_first(one, other)[0] == painting
