"""`python -m metastyle_jax.compare`."""

from metastyle_jax.evaluation.before_after import run_compare

if __name__ == '__main__':
    raise SystemExit(run_compare())
