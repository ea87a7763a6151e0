"""The command `metastyle poster`: compares the eight systems of MetaStyle's poster."""
