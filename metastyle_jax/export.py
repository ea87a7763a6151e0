"""`python -m metastyle_jax.export`."""

from metastyle_jax.stylization.export.command import run

if __name__ == '__main__':
    raise SystemExit(run())
