"""Images: sources, files, batches, colours."""
