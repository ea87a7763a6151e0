"""Writing videos: encoded segments, which are joined, and the sound that goes with them."""
