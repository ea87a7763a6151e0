"""Reads frames of films and cameras: chooses streams, corrects times, converts colours."""
