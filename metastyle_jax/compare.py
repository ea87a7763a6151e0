"""`python -m metastyle_jax.compare`."""

from metastyle_jax.evaluation.before_after import run

if __name__ == '__main__':
    raise SystemExit(run())
