"""`python -m metastyle_jax.stylize`."""

from metastyle_jax.instant.command import run_stylize

if __name__ == '__main__':
    raise SystemExit(run_stylize())
