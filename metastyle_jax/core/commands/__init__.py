"""Parts of the command line: paths, suggestions for unknown flags, the log and the cache."""
