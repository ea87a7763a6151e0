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
import textwrap

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
smartquotes = False  # it would join the dashes of flags
html_static_path = ['_static']
html_css_files = ['site.css']

myst_heading_anchors = 3  # links to `page.md#heading` are checked

autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [('Source', 'notes_style')]
default_role = 'py:obj'  # docstrings write code in single backticks; known names become links


def _help(match: re.Match) -> str:
    """The help text of a command, as a block of plain text."""
    environment = os.environ | {'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu', 'COLUMNS': '90'}
    # A name with a dot is a module; the others are sub-commands of `metastyle`.
    words = [f'metastyle_jax.{match[1]}'] if '.' in match[1] else ['metastyle_jax', match[1]]
    command = [sys.executable, '-m', *words, '--help']
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


_FENCED_BLOCK = re.compile(r'^```(\w+)\n(.*?)^```$', re.DOTALL | re.MULTILINE)
_CODE = re.compile(r'``.+?``|:\w+:`[^`]+`|`([^`]+)`', re.DOTALL)


def _mark_code(app, what, name, obj, options, lines: list[str]) -> None:
    """Turns the Markdown of docstrings into reStructuredText.

    Fenced blocks become code blocks. Single backticks are doubled, except around names, which may
    become links.
    """
    del app, what, name, obj, options

    def block(match: re.Match) -> str:
        return f'.. code-block:: {match[1]}\n\n{textwrap.indent(match[2], "    ")}'

    def double(match: re.Match) -> str:
        code = match[1]
        return match[0] if code is None or re.fullmatch(r'\w[\w.]*', code) else f'``{code}``'

    text = _FENCED_BLOCK.sub(block, '\n'.join(lines))
    lines[:] = _CODE.sub(double, text).split('\n')


def setup(app) -> None:
    """Registers the functions above with Sphinx."""
    app.connect('source-read', _insert_generated_text)
    app.connect('autodoc-process-docstring', _mark_code, priority=100)  # before napoleon
