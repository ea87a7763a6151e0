"""`python -m metastyle_jax.flicker`."""

from metastyle_jax.evaluation.flicker_command import run

if __name__ == '__main__':
    raise SystemExit(run())
