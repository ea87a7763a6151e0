"""The page of `metastyle ui` as a Space of Hugging Face; docs/ui.md says how to make one."""

from metastyle_jax.ui import command
from metastyle_jax.ui.config import UiConfig
from metastyle_jax.ui.page import app

# Everybody may come, so nothing is kept on disk, and the limits are lower than on one's own
# computer. A Space serves port 7860 of all its addresses.
CONFIG = UiConfig(
    host='0.0.0.0', port=7860, open=False, keep=False,
    max_upload=50, max_pixels=24, max_files=20, max_frames=500, max_styles=20, max_waiting=30,
)  # fmt: skip

if __name__ == '__main__':
    with app.serving(CONFIG):
        command.wait()
