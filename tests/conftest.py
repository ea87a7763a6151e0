"""Strict settings for every test; they must be in place before JAX starts its backend."""

import atexit
import os
import shutil
import tempfile

import compiling

# Eight virtual devices let the sharding tests run anywhere. Compilation, not arithmetic, is what
# the suite spends its time on, so XLA's costly optimizations are off: they change no meaning.
os.environ['XLA_FLAGS'] = (
    os.environ.get('XLA_FLAGS', '') + f' --xla_force_host_platform_device_count=8 {compiling.FLAGS}'
)
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Commands keep compiled programs: not among the user's, and not those of earlier runs. Workers of
# one run, which inherit the place, share them.
if 'PYTEST_XDIST_WORKER' not in os.environ:
    os.environ['XDG_CACHE_HOME'] = tempfile.mkdtemp(prefix='metastyle-tests-')
    atexit.register(shutil.rmtree, os.environ['XDG_CACHE_HOME'], ignore_errors=True)

import jax  # noqa: E402
import jax.flatten_util  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')


def pytest_collection_modifyitems(items):
    for item in items:
        item.add_marker(pytest.mark.filterwarnings('error'), append=False)
    # The long ones first, so that no worker is left with them in the end.
    items.sort(key=lambda item: 'finite_differences_on_transformer' not in item.name)


@pytest.fixture
def x64():
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def disagreement(request, record_property):
    """Asserts a relative agreement and records it for the summary of the largest ones."""

    def check(found, expected, tolerance):
        found = np.asarray(jax.flatten_util.ravel_pytree(found)[0], np.float64)
        expected = np.asarray(jax.flatten_util.ravel_pytree(expected)[0], np.float64)
        assert found.shape == expected.shape
        error = float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))
        record_property('disagreement', (request.function.__name__, tolerance, error))
        assert error <= tolerance

    return check


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Escapes file names that are no UTF-8 in captured output: xdist sends it as UTF-8."""
    report = yield
    report.sections = [
        (title, text.encode('utf-8', 'backslashreplace').decode())
        for title, text in report.sections
    ]
    return report


def pytest_terminal_summary(terminalreporter):
    """Prints the largest disagreement of each test that records some."""
    largest = {}
    for report in terminalreporter.stats.get('passed', []):
        for key, value in report.user_properties:
            if key == 'disagreement':
                name, tolerance, error = value
                largest[name] = (max(error, largest.get(name, (0,))[0]), tolerance)
    if largest:
        terminalreporter.section('largest relative disagreement')
        for name, (error, tolerance) in sorted(largest.items()):
            terminalreporter.line(f'{error:9.2e} of {tolerance:.0e} allowed  {name}')
