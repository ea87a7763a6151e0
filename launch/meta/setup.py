"""The distribution `metastyle_jax_meta`: `metastyle_jax.meta` alone, with JAX, NumPy and optax.

    pip install ./launch/meta

It installs the same files as `metastyle_jax` does, but only those that `metastyle_jax.meta` loads.
Install either this distribution or `metastyle_jax`, not both.
"""

import configparser
import os
import pathlib
import re
import shutil

import setuptools

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SOURCE = HERE / 'build' / 'source'  # setuptools takes no files from outside of its folder
CORE = ('__init__', 'checks', 'errors', 'jax_compat', 'trees', 'types')
FILES = [
    *(f'{name}.py' for name in ('__init__', '_version')),
    'py.typed',
    *(f'core/{name}.py' for name in CORE),
]


def copy_sources() -> None:
    """Copies the files that `metastyle_jax.meta` loads."""
    package = ROOT / 'metastyle_jax'
    shutil.rmtree(SOURCE, ignore_errors=True)
    meta = [file.relative_to(package) for file in (package / 'meta').rglob('*.py')]
    for file in [*FILES, *meta]:
        target = SOURCE / 'metastyle_jax' / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / file, target)


copy_sources()
settings = configparser.ConfigParser()
settings.read(ROOT / 'setup.cfg', encoding='utf-8')
required = settings['options']['install_requires'].split()
version = re.search("'(.+)'", (ROOT / 'metastyle_jax' / '_version.py').read_text(encoding='utf-8'))

os.chdir(HERE)
setuptools.setup(
    name='metastyle_jax_meta',
    version=version[1],
    description='Exact meta-gradients through the steps of any optax optimizer, in JAX',
    license='Apache-2.0',
    python_requires=settings['options']['python_requires'],
    install_requires=[word for word in required if re.match('(jax|numpy|optax)[<>=]', word)],
    package_dir={'': 'build/source'},
    packages=setuptools.find_packages(SOURCE),
    package_data={'metastyle_jax': ['py.typed']},
)
