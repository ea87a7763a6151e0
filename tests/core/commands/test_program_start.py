"""The cache of compiled programs."""

import os
import pathlib
import sys

import pytest

from metastyle_jax.core.commands import program_start

FOLDER, TIME = 'JAX_COMPILATION_CACHE_DIR', 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'


@pytest.fixture(autouse=True)
def _before_jax(tmp_path, monkeypatch):
    """A process that has not imported JAX yet, with a cache folder of its own."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.delitem(sys.modules, 'jax')
    for name in (FOLDER, TIME):
        monkeypatch.setenv(name, '')
        monkeypatch.delenv(name)


def test_programs_are_kept_in_the_cache_folder_of_the_user(tmp_path, monkeypatch):
    program_start.set_up_cache()
    assert os.environ[FOLDER] == str(tmp_path / 'metastyle_jax' / 'xla')
    assert os.environ[TIME] == '0.0'


def test_what_the_user_has_set_stays(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER, 'elsewhere')
    program_start.set_up_cache()
    assert os.environ[FOLDER] == 'elsewhere'
    assert os.environ[TIME] == '0.0'
    assert not (tmp_path / 'metastyle_jax').exists()


@pytest.mark.parametrize('place', ['a file', 'no home', 'not writable'])
def test_without_a_folder_that_can_be_written_nothing_is_set(tmp_path, monkeypatch, place):
    def homeless():
        raise RuntimeError('Could not determine home directory.')

    if place == 'a file':
        (tmp_path / 'metastyle_jax').touch()
    elif place == 'no home':
        monkeypatch.delenv('XDG_CACHE_HOME')
        monkeypatch.setattr(pathlib.Path, 'home', homeless)
    else:
        monkeypatch.setattr(program_start.os, 'access', lambda *_: False)
    program_start.set_up_cache()
    assert FOLDER not in os.environ
    assert TIME not in os.environ
