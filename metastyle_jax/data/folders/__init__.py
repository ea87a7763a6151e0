"""Pictures in folders: which files are pictures, and names that tell their results apart."""
