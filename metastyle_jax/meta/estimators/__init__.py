"""Estimators of the meta-gradient, all with the arguments and the result of `meta_gradient`."""
