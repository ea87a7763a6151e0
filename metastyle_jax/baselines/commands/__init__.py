"""The commands of the baselines."""
