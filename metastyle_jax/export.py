"""`python -m metastyle_jax.export`."""

from metastyle_jax.stylization.export.export_style import run

if __name__ == '__main__':
    raise SystemExit(run())
