"""Types, errors, named pytrees, devices and processes, and what all commands share."""
