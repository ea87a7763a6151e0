"""The page itself: the only modules that import Gradio."""
