"""`python -m metastyle_jax.cache`."""

from metastyle_jax.instant.cache_command import run_cache

if __name__ == '__main__':
    raise SystemExit(run_cache())
