"""Finds pictures in folders, and chooses different names for their results."""
