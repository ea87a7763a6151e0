"""Reads the metadata of photographs, and copies a part of them to the stylized pictures."""
