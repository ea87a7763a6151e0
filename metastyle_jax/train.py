"""`python -m metastyle_jax.train`."""

from metastyle_jax.training.command import run

if __name__ == '__main__':
    raise SystemExit(run())
