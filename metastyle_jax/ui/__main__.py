"""`python -m metastyle_jax.ui`."""

from metastyle_jax.ui.command import run_ui

if __name__ == '__main__':
    raise SystemExit(run_ui())
