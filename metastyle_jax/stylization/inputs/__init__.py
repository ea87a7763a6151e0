"""What `metastyle stylize` is given: its words and flags, folders, and what a stopped run did."""
