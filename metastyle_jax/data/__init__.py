"""Pictures: sources, files, batches, colours."""
