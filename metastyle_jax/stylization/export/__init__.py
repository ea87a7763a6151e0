"""Export of an adapted style to files that run without this package."""
