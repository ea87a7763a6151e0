"""The transformer, the loss network and the perceptual loss, as pure functions."""
