"""What the baselines share: encoders, mirrored decoders, and statistics of feature maps."""
