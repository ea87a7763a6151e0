"""README and documentation: their examples run, their flags, extras and links exist."""

import contextlib
import functools
import io
import pathlib
import re
import shlex
import sys

import helpers
import jax
import numpy as np
import pytest
import setuptools.config.setupcfg
from PIL import Image

import metastyle_jax
from metastyle_jax.models import transformer
from metastyle_jax.storage import theta_files

PAGES = {
    str(page.relative_to(helpers.ROOT)): page.read_text()
    for page in [helpers.ROOT / 'README.md', *sorted((helpers.ROOT / 'docs').glob('*.md'))]
}
# The examples use the defaults, which are made for good pictures; these make fast ones.
FAST = {'steps': 1, 'batch': 1, 'size': 32, 'style_size': 32}
PICTURES = (
    *('painting.jpg', 'photo.jpg', 'seurat.png', 'gogh.png', 'china.png', 'flower.png'),
    *('coffee.png', 'sky.png', 'paintings/gogh.png', 'paintings/klimt.png'),
)


def code_blocks(text, language):
    """The fenced blocks of a page that are marked with this language."""
    blocks = re.findall(rf'^( *)```{language}\n(.*?)^ *```$', text, re.DOTALL | re.MULTILINE)
    return [re.sub(rf'^{indent}', '', block, flags=re.MULTILINE) for indent, block in blocks]


def shell_commands(text):
    """The commands in the `bash` blocks of a page, each as a list of words."""
    for block in code_blocks(text, 'bash'):
        for line in re.sub(r'(\\|\|)\n', lambda m: m[1].replace('\\', ' '), block).splitlines():
            for command in re.sub(r' #.*', '', line).split('|'):
                words = shlex.split(command)
                while words and re.fullmatch(r'[A-Z_]+=.*', words[0]):  # environment variables
                    words = words[1:]
                if words:
                    yield words


COMMANDS = [(page, words) for page, text in PAGES.items() for words in shell_commands(text)]


# Python. ------------------------------------------------------------------------------------------


@pytest.fixture
def example_folder(tmp_path, monkeypatch):
    """A working directory with the pictures that examples name, and a small θ as the default."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    for name in PICTURES:
        pathlib.Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(name)
    params = transformer.init(jax.random.key(0), width=2, blocks=1)
    theta_files.save_theta('small_theta.safetensors', params, settings={})
    monkeypatch.setattr(theta_files, 'SHIPPED', tmp_path / 'small_theta.safetensors')
    for name in ('adapt', 'adapt_many'):
        function = getattr(metastyle_jax, name)

        def fast(*args, _function=function, **settings):
            return _function(*args, **{**FAST, **settings, 'style_size': 32})

        monkeypatch.setattr(metastyle_jax, name, functools.wraps(function)(fast), raising=False)


@pytest.mark.parametrize('page', [page for page in PAGES if code_blocks(PAGES[page], 'python')])
def test_python_examples_run(page, example_folder):
    code = '\n'.join(code_blocks(PAGES[page], 'python'))
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(code, page, 'exec'), {})


# Commands. ----------------------------------------------------------------------------------------


@functools.cache
def flags_of(name):
    """The flags in the help text of a command, and whether each takes a value."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, 'argv', [name, '--help'])
        helpers.command_module(name).run()
    return {
        flag: bool(value)
        for flag, value in re.findall(r'^  --(\w+)(=?)', printed.getvalue(), re.MULTILINE)
    }


def command_name(words):
    """The name by which `helpers.command_module` knows a command of the package, or None."""
    names = {name: name for name in helpers.COMMANDS}
    names |= {name: f'baselines.{name}' for name in ('gatys', 'johnson')}
    if words[0] == 'metastyle':
        return names.get(words[1], words[1])
    if words[0].startswith('metastyle-'):
        return names[words[0].removeprefix('metastyle-')]
    if words[:2] == ['python', '-m'] and words[2].startswith('metastyle_jax.'):
        return words[2].removeprefix('metastyle_jax.')
    return None


@pytest.mark.parametrize(
    ('page', 'words'),
    [x for x in COMMANDS if command_name(x[1]) not in (None, '--help', '--version')],
    ids=lambda x: x if isinstance(x, str) else ' '.join(x)[:60],
)
def test_flags_in_examples_exist(page, words):
    known = flags_of(command_name(words))
    for word in words:
        flag, equals, _ = word.partition('=')
        flag = flag.removeprefix('--')
        if not word.startswith('--') or flag == 'help' or flag.startswith('config.'):
            continue
        assert flag in known, f'{page}: {" ".join(words)}'
        assert known[flag] == bool(equals), f'{page}: {" ".join(words)}'


def test_every_command_has_an_example():
    shown = {command_name(words) for _, words in COMMANDS}
    assert {*helpers.COMMANDS, 'baselines.gatys', 'baselines.johnson'} <= shown


@pytest.mark.parametrize('page', PAGES)
def test_flags_named_in_the_text_exist(page):
    text = re.sub(r'^ *```.*?^ *```$', '', PAGES[page], flags=re.DOTALL | re.MULTILINE)
    named = re.findall(r'`(?:[^`\n]* )?--([\w-]+)', text)
    known = {'help', 'version', 'config', 'dry-run', 'quick'}
    known.update(*(flags_of(name) for name in (*helpers.COMMANDS, 'baselines.gatys')))
    assert set(named) <= known, page


@pytest.mark.parametrize('page', PAGES)
def test_scripts_extras_and_files_in_the_text_exist(page):
    text = PAGES[page]
    for script in re.findall(r'bash ((?:launch|tests)/[\w/]+\.sh)', text):
        assert (helpers.ROOT / script).is_file(), script
    for file in re.findall(r'`((?:launch|tests|configs|docs|benchmarks)/[a-z_/.]*)`', text):
        assert (helpers.ROOT / file).exists(), file
    for file in re.findall(r'`(metastyle_jax/[\w/.]+)`', text):
        assert (helpers.ROOT / file).exists(), file
    extras = setuptools.config.setupcfg.read_configuration(helpers.ROOT / 'setup.cfg')['options']
    for group in re.findall(r"pip install (?:-e )?'?\.\[([\w,]+)\]", text):
        assert set(group.split(',')) <= set(extras['extras_require']), group


# Links and the reference. -------------------------------------------------------------------------


@pytest.mark.parametrize('page', PAGES)
def test_relative_links_lead_to_files(page):
    for link in re.findall(r'\]\(([^)#\s]+)(?:#[^)]*)?\)', PAGES[page]):
        if not link.startswith(('http://', 'https://')):
            assert (helpers.ROOT / page).parent.joinpath(link).is_file(), link


def test_the_page_of_modules_names_existing_ones():
    text = PAGES['docs/architecture.md']
    rooms = 'core|meta|models|data|storage|training|adaptation|stylization|baselines|evaluation'
    for path in re.findall(rf'`((?:{rooms})/[\w/.]*)`', text):
        assert (helpers.ROOT / 'metastyle_jax' / path).exists(), path
    for room in (helpers.ROOT / 'metastyle_jax').iterdir():
        if (room / '__init__.py').exists():
            assert f'`{room.name}`' in text, room.name


def test_every_public_name_is_in_the_reference():
    text = PAGES['docs/api.md'] + PAGES['docs/api_meta.md']
    for name in metastyle_jax.__all__:
        if name != '__version__':
            assert re.search(rf'^\.\. auto\w+:: (metastyle_jax\.)?{name}$', text, re.M), name


def test_the_readme_is_short():
    assert len(PAGES['README.md'].splitlines()) <= 120
