"""The configuration of meta-training: schema, checks, files and the documentation's table."""
