"""The folder spaces/: what a Space of Hugging Face needs fits the package."""

import importlib.util
import re

import helpers
import pytest
import setuptools.config.setupcfg

from metastyle_jax._version import __version__

FOLDER = helpers.ROOT / 'spaces'


def test_the_front_matter_names_the_gradio_that_is_tested():
    lines = (FOLDER / 'README.md').read_text().split('---\n')[1].splitlines()
    entries = dict(re.fullmatch(r'(\w+): (.*)', line).groups() for line in lines)
    locked = (helpers.ROOT / 'launch' / 'lock.txt').read_text().splitlines()
    assert f'gradio=={entries["sdk_version"]}' in locked
    assert entries['sdk'] == 'gradio'
    assert (FOLDER / entries['app_file']).is_file()
    assert len(entries['short_description']) <= 60  # the limit of Hugging Face


def test_the_requirements_are_the_wheel_of_this_version_with_extras_that_exist():
    (line,) = (FOLDER / 'requirements.txt').read_text().splitlines()
    wheel, extras = re.fullmatch(r'\./(\S+\.whl)\[([\w,]+)\]', line).groups()
    assert wheel == f'metastyle_jax-{__version__}-py3-none-any.whl'
    options = setuptools.config.setupcfg.read_configuration(helpers.ROOT / 'setup.cfg')['options']
    assert {*extras.split(',')} <= {*options['extras_require']}


def test_the_space_keeps_nothing_and_serves_everybody():
    pytest.importorskip('gradio')
    spec = importlib.util.spec_from_file_location('space_app', FOLDER / 'app.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.CONFIG.validate()
    assert (module.CONFIG.keep, module.CONFIG.library) == (False, None)
    assert (module.CONFIG.host, module.CONFIG.port) == ('0.0.0.0', 7860)
