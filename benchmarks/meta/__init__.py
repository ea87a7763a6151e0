"""Measures meta-gradients beside plain JAX, torch.func and TorchOpt."""
