"""The web page of `metastyle ui`; only these modules import Gradio."""
