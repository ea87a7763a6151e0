"""The command `metastyle poster`: MetaStyle's poster, measured on this machine."""
