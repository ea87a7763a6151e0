"""`metastyle ui`: a local web page for painting photographs without a terminal (Gradio)."""
