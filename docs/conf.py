"""Sphinx settings of the documentation: `bash launch/docs.sh` builds it.

Two kinds of text are generated when the site is built, so that they never differ from the code. In
a page, the line `<!-- help: adapt -->` becomes the `--help` of `metastyle adapt`, and the line
`<!-- configuration table -->` becomes the table of all configuration entries.
"""

import importlib
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import metastyle_jax  # noqa: E402

project = 'metastyle_jax'
author = 'the authors of metastyle_jax'
release = version = metastyle_jax.__version__

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode']
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'metastyle_jax {release}'
html_copy_source = False

myst_heading_anchors = 3  # links to `page.md#heading` are checked

autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
napoleon_numpy_docstring = False
# Where the paper's method is meant, docstrings have a section `Source`.
napoleon_custom_sections = [('Source', 'notes_style')]


def _help(match: re.Match) -> str:
    """The help text of a command, as a block of plain text."""
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu', 'COLUMNS': '90'}
    command = [sys.executable, '-m', f'metastyle_jax.{match[1]}', '--help']
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return f'```text\n{done.stdout.strip()}\n```'


def _configuration_table(match: re.Match) -> str:
    """The table of configuration entries, as Markdown."""
    del match
    module = importlib.import_module('metastyle_jax.training.configuration.markdown_table')
    return module.markdown()


def _insert_generated_text(app, page: str, source: list[str]) -> None:
    """Replaces the marks of generated text in a page (event `source-read` of Sphinx)."""
    del app, page
    text = re.sub(r'^<!-- help: (\S+) -->$', _help, source[0], flags=re.MULTILINE)
    source[0] = re.sub(
        r'^<!-- configuration table -->$', _configuration_table, text, flags=re.MULTILINE
    )


def setup(app) -> None:
    """Registers the generated text with Sphinx."""
    app.connect('source-read', _insert_generated_text)
