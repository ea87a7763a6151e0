"""Writes ONNX programs that make styles from paintings, for web pages and other programs."""
