"""`python -m metastyle_jax.train`."""

from metastyle_jax.training.command import run_train

if __name__ == '__main__':
    raise SystemExit(run_train())
