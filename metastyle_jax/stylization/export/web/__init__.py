"""ONNX programs that make a style from a painting, for web pages and other programs."""
