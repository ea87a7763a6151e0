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
from metastyle_jax import __main__, meta
from metastyle_jax.models import norm_predictor, transformer
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
    predictor = norm_predictor.init(jax.random.key(1), params, 964, hidden=1)
    theta_files.save_theta('small_theta.safetensors', params, settings={}, predictor=predictor)
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


def of_the_package(words):
    """The sub-command of `metastyle` that a line starts, and the words behind it; or None."""
    launchers = {'python -m metastyle_jax.baselines.', 'python -m metastyle_jax.', 'metastyle-'}
    line = shlex.join(words)
    for launcher in sorted(launchers, reverse=True):
        if line.startswith(launcher):
            name, *rest = shlex.split(line.removeprefix(launcher))
            return [name, *rest]
    return words[1:] if words[0] == 'metastyle' else None


EXAMPLES = [
    (page, words)
    for page, words in ((page, of_the_package(words)) for page, words in COMMANDS)
    if words and words[0] in __main__.COMMANDS
]


@functools.cache
def flags_of(name):
    """Names of the flags of a sub-command."""
    return {*__main__.flags_of(name)}


@pytest.mark.parametrize(
    ('page', 'words'), EXAMPLES, ids=lambda x: x if isinstance(x, str) else ' '.join(x)[:60]
)
def test_commands_in_examples_are_parsed(page, words, monkeypatch, capsys):
    name, *arguments = words
    module = helpers.command_module(name)
    monkeypatch.chdir(helpers.ROOT)
    monkeypatch.setattr(module, 'main', lambda values, **_: None)
    monkeypatch.setattr(sys, 'argv', [f'metastyle {name}', *arguments])
    assert helpers.run_command(name) == 0, f'{page}: {capsys.readouterr().err}'


def test_every_command_has_an_example():
    assert {words[0] for _, words in EXAMPLES} == {*__main__.COMMANDS}


@pytest.mark.parametrize('page', PAGES)
def test_flags_named_in_the_text_exist(page):
    text = re.sub(r'^ *```.*?^ *```$', '', PAGES[page], flags=re.DOTALL | re.MULTILINE)
    named = re.findall(r'`(?:[^`\n]* )?--([\w-]+)', text)
    known = {'help', 'version', 'config', 'dry-run', 'quick'}
    known.update(*map(flags_of, __main__.COMMANDS))
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


def anchors(text):
    """The anchors of the headings of a page, as GitHub and the website make them."""
    text = re.sub(r'^ *```.*?^ *```$', '', text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
    return {re.sub(r'[^\w -]', '', heading).lower().replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES)
def test_anchors_of_links_exist(page):
    for link, anchor in re.findall(r'\]\(([\w/.]*)#([^)]+)\)', PAGES[page]):
        file = (helpers.ROOT / page).parent / link if link else helpers.ROOT / page
        assert anchor in anchors(file.read_text()), f'{link}#{anchor}'


def test_the_page_of_modules_names_existing_ones():
    text = PAGES['docs/architecture.md']
    rooms = (
        'core|meta|models|data|storage|training|adaptation|stylization|instant|ui|baselines'
        '|evaluation'
    )
    for path in re.findall(rf'`((?:{rooms})/[\w/.]*)`', text):
        assert (helpers.ROOT / 'metastyle_jax' / path).exists(), path
    for room in (helpers.ROOT / 'metastyle_jax').iterdir():
        if (room / '__init__.py').exists():
            assert f'`{room.name}`' in text, room.name


def test_every_public_name_is_in_the_reference():
    text = PAGES['docs/api.md'] + PAGES['docs/api_meta.md']
    for name in {*metastyle_jax.__all__, *meta.__all__}:
        if name != '__version__' and not name.isupper():
            directive = rf'^\.\. auto\w+:: (metastyle_jax\.)?{name}(\(.*\))?$'
            assert re.search(directive, text, re.MULTILINE), name


def test_the_readme_is_short():
    assert len(PAGES['README.md'].splitlines()) <= 120
