"""Basics for all other rooms: types, errors, checks, files, devices, and what commands share."""
