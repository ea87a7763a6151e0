"""Writes videos: encodes segments, and joins them with sound, subtitles and tags."""
