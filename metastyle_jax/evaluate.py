"""`python -m metastyle_jax.evaluate`."""

from metastyle_jax.evaluation.command import run

if __name__ == '__main__':
    raise SystemExit(run())
