"""What MetaStyle is compared with.

`gatys` optimizes an image, `johnson` trains from scratch, `matching` matches features.
"""
