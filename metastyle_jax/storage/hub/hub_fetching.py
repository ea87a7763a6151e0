"""Downloads θ from the Hugging Face Hub: `hf://OWNER/NAME[@REVISION]`.

The package `huggingface_hub` downloads and caches the files. It reads its environment variables:
`HF_HUB_OFFLINE=1` for the offline mode, `HF_HOME`, `HF_TOKEN` and `HF_ENDPOINT`.
"""

import importlib.util
import pathlib
import re

from metastyle_jax.core.errors import UserError

SCHEME = 'hf://'
FILE = 'theta.safetensors'
REPOSITORY = r'[\w.-]+/[\w.-]+'  # OWNER/NAME
_WORD = re.compile(rf'hf://({REPOSITORY})(?:@([^@\s]+))?')


def fetch(word: str) -> pathlib.Path:
    """Downloads the file `theta.safetensors` of a repository, or finds it in the cache.

    Args:
        word: `hf://OWNER/NAME`, or `hf://OWNER/NAME@REVISION` with a branch, a tag or a commit.

    Returns:
        The downloaded file.

    Raises:
        UserError: the word does not have this form, `huggingface_hub` is not installed, or the file
            cannot be downloaded.
    """
    match = _WORD.fullmatch(word)
    if match is None:
        raise UserError(f'theta={word}: write hf://OWNER/NAME or hf://OWNER/NAME@REVISION')
    if importlib.util.find_spec('huggingface_hub') is None:
        raise UserError(f"theta={word} needs huggingface_hub: pip install 'metastyle_jax[hub]'")
    import huggingface_hub
    from huggingface_hub import errors

    repository, revision = match.groups()
    try:
        return pathlib.Path(huggingface_hub.hf_hub_download(repository, FILE, revision=revision))
    except errors.LocalEntryNotFoundError as error:
        raise UserError(
            f'{word} is not in the cache, and the Hub cannot be reached: go online, unset '
            'HF_HUB_OFFLINE, or give a file, as theta=FILE'
        ) from error
    except errors.GatedRepoError as error:
        raise UserError(
            f'{word} needs permission: request access on the Hub, and set HF_TOKEN'
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f'{word}: there is no such repository, or it is private: check the name, or set '
            'HF_TOKEN'
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(
            f'{word}: the repository has no revision {revision!r}: check its branches and tags'
        ) from error
    except errors.EntryNotFoundError as error:
        raise UserError(
            f'{word}: the repository holds no {FILE}: name one with an initialization'
        ) from error
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f'{word} cannot be fetched ({reason[0]}): try again later') from error
