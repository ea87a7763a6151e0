"""`python -m metastyle_jax.evaluate`."""

from metastyle_jax.evaluation.evaluate import run

if __name__ == '__main__':
    raise SystemExit(run())
