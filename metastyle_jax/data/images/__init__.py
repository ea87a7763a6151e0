"""Images: reading, writing, resizing, colours, contact sheets."""
