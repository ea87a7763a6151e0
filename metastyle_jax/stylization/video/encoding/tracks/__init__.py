"""Writes the parts of a video beside its picture: sound, subtitles, covers, tags and chapters."""
