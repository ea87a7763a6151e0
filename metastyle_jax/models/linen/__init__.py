"""The networks as Flax modules, for programs that are written with Flax."""
