"""Flags with which XLA compiles as cheaply as it can; they must be set before JAX starts."""

from importlib import metadata

FLAGS = '--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true'
# The emitters that followed these take twice as long, and later versions have no others.
if metadata.version('jaxlib').startswith('0.10.'):
    FLAGS += ' --xla_cpu_use_fusion_emitters=false'
