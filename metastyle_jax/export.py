"""`python -m metastyle_jax.export`."""

from metastyle_jax.stylization.export.command import run_export

if __name__ == '__main__':
    raise SystemExit(run_export())
