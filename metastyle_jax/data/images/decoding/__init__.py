"""Decodes pictures: modes of Pillow, colour profiles, reduced sizes, special TIFF and PNG files."""
