"""Pictures and video in an adapted style, and its export to other programs."""
