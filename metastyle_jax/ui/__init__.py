"""`metastyle ui`: a local web page for stylizing photographs without a terminal (Gradio)."""
