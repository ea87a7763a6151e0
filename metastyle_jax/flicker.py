"""`python -m metastyle_jax.flicker`."""

from metastyle_jax.evaluation.films.flicker_command import run_flicker

if __name__ == '__main__':
    raise SystemExit(run_flicker())
