"""`python -m metastyle_jax.adapt`."""

from metastyle_jax.adaptation.command import run_adapt

if __name__ == '__main__':
    raise SystemExit(run_adapt())
