"""`python -m metastyle_jax.adapt`."""

from metastyle_jax.adaptation.adapt import run

if __name__ == '__main__':
    raise SystemExit(run())
