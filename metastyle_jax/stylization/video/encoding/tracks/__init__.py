"""What is written beside the picture: sound, subtitles, attached files, covers, tags, chapters."""
