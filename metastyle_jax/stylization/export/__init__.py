"""Exports an adapted style to files that work without this package."""
