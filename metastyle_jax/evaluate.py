"""`python -m metastyle_jax.evaluate`."""

from metastyle_jax.evaluation.command import run_evaluate

if __name__ == '__main__':
    raise SystemExit(run_evaluate())
