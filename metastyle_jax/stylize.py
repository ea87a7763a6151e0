"""`python -m metastyle_jax.stylize`."""

from metastyle_jax.stylization.stylize import run

if __name__ == '__main__':
    raise SystemExit(run())
