"""`python -m metastyle_jax.flicker`."""

from metastyle_jax.evaluation.flicker import run

if __name__ == '__main__':
    raise SystemExit(run())
