"""`python -m metastyle_jax.poster`."""

from metastyle_jax.evaluation.poster.poster_command import run_poster

if __name__ == '__main__':
    raise SystemExit(run_poster())
