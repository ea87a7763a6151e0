"""Publishes θ on the Hugging Face Hub, with the mixin class of `huggingface_hub`.

The repository contains `theta.safetensors`, which `hf://OWNER/NAME` opens, a model card, and
`config.json` with the sizes of the network.
"""

import functools
import importlib.util
import pathlib
import re
from typing import Any

import jax

from metastyle_jax._version import __version__
from metastyle_jax.core import files
from metastyle_jax.core.errors import UserError
from metastyle_jax.models import transformer
from metastyle_jax.storage import theta_files
from metastyle_jax.storage.hub import hub_fetching

_CARD = """---
license: {licence}
library_name: metastyle_jax
pipeline_tag: image-to-image
tags:
- style-transfer
- meta-learning
- jax
---

# An initialization of MetaStyle

A few gradient steps adapt this initialization to any painting. The adapted network then paints
photographs in its style. The method is [MetaStyle](https://arxiv.org/abs/1812.05233).

| | |
|---|---|
| parameters | {parameters:,} |
| fingerprint | `{fingerprint}` |
| norm predictor | {predictor} |
| learned rates | {rates} |
| made by | metastyle_jax {version} |

```bash
pip install 'metastyle_jax[hub]'
metastyle stylize photo.jpg --style=painting.jpg --theta=hf://OWNER/NAME -o out.png
```

```python
import metastyle_jax

theta = metastyle_jax.Theta.from_pretrained('OWNER/NAME')
image = metastyle_jax.stylize(metastyle_jax.adapt('painting.jpg', theta), 'photo.jpg')
```
"""


def model_card(theta: theta_files.Theta, *, licence: str = 'apache-2.0', name: str = '') -> str:
    """Writes a model card with front matter, as Markdown.

    Args:
        theta: the initialization.
        licence: identifier of its licence on the Hub.
        name: its repository, OWNER/NAME; '' if unknown.
    """
    card = _CARD.format(
        licence=licence,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(theta.params)),
        fingerprint=theta.fingerprint,
        predictor='yes' if theta.predictor is not None else 'no',
        rates='yes' if theta.rates else 'no',
        version=__version__,
    )
    return card.replace('OWNER/NAME', name) if name else card


def save_pretrained(
    theta: theta_files.Theta, folder: str | pathlib.Path, *, licence: str = 'apache-2.0'
) -> None:
    """Writes `theta.safetensors` in float16, `README.md` and `config.json` to a folder.

    Args:
        theta: the initialization.
        folder: the folder; it is made if it does not exist. Files of these names are replaced.
        licence: identifier of its licence on the Hub.

    Raises:
        UserError: `huggingface_hub` is not installed, or the folder cannot be written.
    """
    try:
        _mixin()(theta, licence).save_pretrained(folder, config=_facts(theta))
    except OSError as error:
        raise UserError(f'folder={folder} cannot be written ({files.reason(error)})') from error


def push_to_hub(
    theta: theta_files.Theta,
    repo_id: str,
    *,
    licence: str = 'apache-2.0',
    private: bool | None = None,
    token: str | None = None,
    branch: str | None = None,
    commit_message: str = 'Upload an initialization of metastyle_jax',
) -> str:
    """Uploads θ and its model card; the repository is made if it does not exist.

    Args:
        theta: the initialization.
        repo_id: OWNER/NAME.
        licence: identifier of its licence on the Hub.
        private: whether a new repository is private; None for the default of the owner.
        token: access token; None for that of `hf auth login` or of HF_TOKEN.
        branch: the branch; None for main.
        commit_message: message of the commit.

    Returns:
        Address of the commit.

    Raises:
        UserError: `huggingface_hub` is not installed, the name does not have this form, or the Hub
            refuses the upload or cannot be reached.
    """
    if not re.fullmatch(hub_fetching.REPOSITORY, repo_id):
        raise UserError(f'repo_id={repo_id}: write OWNER/NAME')
    made = _mixin()(theta, licence, repo_id)
    from huggingface_hub import errors

    try:
        return str(
            made.push_to_hub(
                repo_id,
                config=_facts(theta),
                private=private,
                token=token,
                branch=branch,
                commit_message=commit_message,
            )
        )
    except errors.HFValidationError as error:
        raise UserError(f'repo_id={repo_id}: write OWNER/NAME') from error
    except Exception as error:
        known = (errors.HfHubHTTPError, errors.LocalTokenNotFoundError, OSError)
        # Errors of the connection come from httpx; the name of its package depends on the version
        # of huggingface_hub.
        if not isinstance(error, known) and not type(error).__module__.startswith('httpx'):
            raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f'{repo_id} cannot be uploaded ({reason[0]}): log in with `hf auth login`, or set '
            'HF_TOKEN to a token that may write'
        ) from error


def _facts(theta: theta_files.Theta) -> dict[str, Any]:
    """Returns the contents of `config.json`; the Hub counts the downloads of this file."""
    width, blocks = transformer.width_and_blocks(theta.params)
    return {'width': width, 'blocks': blocks, 'fingerprint': theta.fingerprint}


@functools.cache
def _mixin() -> Any:
    """Makes the class with the mixin, inside a function because it needs `huggingface_hub`."""
    if importlib.util.find_spec('huggingface_hub') is None:
        raise UserError("publishing θ needs huggingface_hub: pip install 'metastyle_jax[hub]'")
    import huggingface_hub

    class PublishedTheta(huggingface_hub.ModelHubMixin, library_name='metastyle_jax'):
        """θ with `save_pretrained` and `push_to_hub`."""

        def __init__(self, theta: theta_files.Theta, licence: str, name: str = '') -> None:
            self._theta = theta
            self._card = model_card(theta, licence=licence, name=name)

        def _save_pretrained(self, save_directory: pathlib.Path) -> None:
            theta = self._theta
            theta_files.save_theta(
                save_directory / hub_fetching.FILE,
                theta.params,
                settings=theta.settings,
                rates=theta.rates,
                predictor=theta.predictor,
                dtype='float16',
                overwrite=True,
            )
            (save_directory / 'README.md').write_text(self._card, 'utf-8')

        def generate_model_card(self, *_: Any, **__: Any) -> Any:
            return huggingface_hub.ModelCard(self._card)

    return PublishedTheta
