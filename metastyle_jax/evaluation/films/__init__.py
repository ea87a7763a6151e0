"""Measurements of stylized videos."""
