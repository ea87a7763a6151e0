"""Initializations on the Hugging Face Hub."""
