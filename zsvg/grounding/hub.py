"""Model folders on the Hugging Face Hub: `hf://ORG/NAME` in place of a folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from zsvg.backbones.names import MANIFEST, HubModel, hub_model, tuned_folder
from zsvg.errors import ModelFolderError, reason
from zsvg.grounding.model_folder import OWN

_log = logging.getLogger(__name__)

LOGIN = "`hf auth login` or $HF_TOKEN"
_ANSWERS = {
    401: f"there is no such model, or none for your token ({LOGIN})",
    403: f"your token ({LOGIN}) has no right to it",
    404: "there is no such model",
}


def folder_of(name: str | Path | None, revision: str | None = None) -> Path | None:
    """Return the model folder that is meant, downloaded where it is one of the hub.

    Args:
        name: As of `zsvg.load`; None and names of backbones give None.
        revision: Of a model of the hub.

    Raises:
        ModelFolderError: There is none of that name.
    """
    model = hub_model(name, revision)
    return tuned_folder(name) if model is None else fetch(model)


def fetch(model: HubModel, *, stored: bool = False) -> Path:
    """Return the folder of a model of the hub in the cache of Hugging Face's libraries.

    Nothing but the files of a model folder is downloaded, whatever lies beside them. Where the hub
    cannot be asked, the folder is what was downloaded last.

    Args:
        model: Its name.
        stored: Download nothing: take what is here.

    Raises:
        ModelFolderError: It cannot be had, not whole, or is no model of zsvg.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = Path(
            snapshot_download(
                model.repository,
                revision=model.revision,
                allow_patterns=sorted(OWN),
                local_files_only=stored,
            )
        )
    except Exception as error:  # the hub raises a dozen unrelated types
        why = "" if stored else f", and cannot be downloaded ({answer_of(error, _ANSWERS)})"
        raise ModelFolderError(
            f"model {str(model)!r} cannot be loaded: it is not on this machine{why}; check the "
            "name and the network, or give a model folder"
        ) from error
    if not (folder / MANIFEST).is_file():
        raise ModelFolderError(f"{model}: there is no {MANIFEST}; is this a zsvg model?")
    _log.info("%s is %s", model, folder)
    return folder


def pinned(name: str | Path | None) -> str | Path | None:
    """Return a name by which a model of the hub stays what it is now: with its commit.

    Other names are returned as they are.

    Raises:
        ModelFolderError: The model cannot be had.
    """
    model = hub_model(name)
    return name if model is None else str(HubModel(model.repository, fetch(model).name))


def answer_of(error: Exception, known: Mapping[int, str]) -> str:
    """Return on one line what the hub has answered, or why it cannot be asked.

    Args:
        error: Of huggingface_hub, or of what it rests on.
        known: What a status of HTTP means here.
    """
    from huggingface_hub import constants, errors

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # itself it says only that nothing was downloaded before
    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such revision"
    if isinstance(error, errors.GatedRepoError):
        return f"its owners let in whom they choose: ask on its page, then {LOGIN}"
    if not isinstance(error, errors.HfHubHTTPError):
        return reason(error)
    status = error.response.status_code
    said = known.get(status) or error.server_message or error.response.reason_phrase
    return f"{status}: {' '.join(said.split())}"
