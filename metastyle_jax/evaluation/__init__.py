"""How well and how fast initializations adapt."""
