"""Weights on the Hugging Face Hub, named as huggingface_hub names places there.

``hf://ORG/NAME[@REVISION][/FILE]``; the revision is a branch, a tag or a commit, by
default ``main``, and the file by default ``model.safetensors``. Files are kept in
huggingface_hub's cache, and its settings apply: ``HF_TOKEN`` for private repositories,
``HF_HOME``, ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``.
"""

from pathlib import Path
from typing import Any

from edvr_jax.errors import InputError, first_line, list_some, needs_extra

PREFIX = "hf://"
DEFAULT_FILE = "model.safetensors"
_SUFFIXES = (".safetensors", ".pth", ".pt")


def is_hub(name: str) -> bool:
    """Report whether a name of weights stands for a file on the Hub."""
    return name.startswith(PREFIX)


def download(name: str) -> Path:
    """Return the local copy of a weights file on the Hub.

    Without a network, the copy of an earlier call is returned.

    Args:
        name: ``hf://ORG/NAME[@REVISION][/FILE]``.

    Raises:
        InputError: if huggingface_hub is not installed, or there is no such repository,
            revision or file, or it can neither be loaded nor is in the cache.
    """
    with needs_extra("hub", f"{name}: the Hugging Face Hub needs huggingface_hub"):
        import huggingface_hub
        from huggingface_hub import errors, utils
    # It announces each of five attempts; the error says what came of them.
    utils.logging.set_verbosity_error()
    try:
        place = utils.parse_hf_uri(name)
    except errors.HfUriError as error:
        raise InputError(
            f"{name}: {first_line(error)} (hf://ORG/NAME[@REVISION][/FILE])"
        ) from None
    if place.type != "model":
        raise InputError(f"{name}: this is a {place.type}; weights are in models")
    file = place.path_in_repo or DEFAULT_FILE
    api = huggingface_hub.HfApi(library_name="edvr_jax")
    try:
        path = api.hf_hub_download(place.id, file, revision=place.revision)
    except errors.GatedRepoError:
        reason = "ask for access on its page, then log in by: hf auth login"
    except errors.RepositoryNotFoundError:
        reason = "no such repository; if it is private, log in by: hf auth login"
    except errors.RevisionNotFoundError:
        reason = f"the repository has no revision {place.revision}"
    except errors.LocalEntryNotFoundError:
        reason = "not in the cache, and the Hub cannot be reached"
    except errors.EntryNotFoundError:
        reason = f"the repository has no {file}{_others(api, place)}"
    except (OSError, errors.HfHubHTTPError) as error:
        reason = f"cannot be loaded ({first_line(error)})"
    else:
        return Path(path)
    raise InputError(f"{name}: {reason}")


def _others(api: Any, place: Any) -> str:
    """List the weights files of a repository, for a message."""
    names = api.list_repo_files(place.id, revision=place.revision)
    found = [name for name in names if name.endswith(_SUFFIXES)]
    return f"; name one of {list_some(found)}" if found else " nor any other weights"
