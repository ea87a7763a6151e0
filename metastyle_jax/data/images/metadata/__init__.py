"""Metadata of photographs: what is read from their files, and what goes to the result."""
