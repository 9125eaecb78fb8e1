"""What backbones and models can be called: told by the name alone, before torch is imported."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from zsvg.errors import BackboneError, ModelFolderError
from zsvg.places.urls import local

MANIFEST = "zsvg.json"
"""The file by which a folder is one of a tuned model."""

PREFIX = "captions:"
"""Begins the name of a backbone that reads captions (`zsvg.backbones.captions`)."""

CAPTION_FILES = (".jsonl",)
"""Suffixes of the files of ready captions."""

STORED = "features"
"""Names a backbone of ready features on both sides (`zsvg.backbones.stored`)."""

SUGGESTION = (
    "name one: `ViT-B-32/laion2b_s34b_b79k` (any open_clip ARCH/TAG; this one downloads about "
    "605 MB), `hf-hub:ORG/NAME`, `local-dir:PATH`, or `micro` (inside the package, microworld only)"
)

ENDPOINT = "openai:"
"""Begins the name of a captioner behind an endpoint (`zsvg.backbones.endpoint`)."""

CAPTIONER = "Salesforce/blip-image-captioning-base"
"""One that any may take; the hub knows it by this name."""

RECOGNISER = "openai/whisper-base"
"""A recogniser of speech that any may take; the hub knows it by this name."""

SENTENCES = "sentence-transformers/all-MiniLM-L6-v2"
"""A model of sentences that any may take; the hub knows it by this name."""

HUB = "hf://"
"""Begins the name of a model folder on the Hugging Face Hub (`zsvg.grounding.hub`)."""


class HubModel(NamedTuple):
    """A model folder on the Hugging Face Hub.

    Attributes:
        repository: ORG/NAME.
        revision: A branch, a tag or a commit; None is the main branch.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        """Return the name that is read."""
        return f"{HUB}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def hub_model(name: str | Path | None, revision: str | None = None) -> HubModel | None:
    """Return which model folder of the hub is meant by "hf://ORG/NAME@REVISION"; None: it is none.

    Args:
        name: What `zsvg.load` takes.
        revision: Of the hub's; it may stand in the name instead.

    Raises:
        ModelFolderError: There can be no such name or revision, or it is named twice, or for
            something that has none.
    """
    text = "" if name is None else str(name)
    if not text.startswith(HUB):
        if revision is not None:
            raise ModelFolderError(
                f"{text}: has no revision {revision!r}; only {HUB}ORG/NAME has revisions"
            )
        return None
    return read_hub_name(text, revision)


def read_hub_name(text: str, revision: str | None = None) -> HubModel:
    """Return what "hf://ORG/NAME@REVISION" says; the hub is not asked.

    Raises:
        ModelFolderError: There can be no such name or revision, or two revisions are named.
    """
    repository, at, own = text.removeprefix(HUB).partition("@")
    if not re.fullmatch(r"\w([\w.-]*\w)?/\w([\w.-]*\w)?", repository, re.ASCII) or re.search(
        r"--|\.\.|\.git$", repository
    ):
        raise ModelFolderError(
            f"{text}: no model of the hub can be called so; give {HUB}ORG/NAME or "
            f"{HUB}ORG/NAME@REVISION"
        )
    if at and revision is not None:
        raise ModelFolderError(f"{text}: names a revision, and --revision another; leave one out")
    revision = own if at else revision
    # What git takes for no reference; ".." would also lead out of the folder of downloads.
    taken = r"(?!/)((?!\.\.|//)[^\s~^:?*[\\\x00-\x1f\x7f])+(?<!/)"
    if revision is not None and not re.fullmatch(taken, revision):
        raise ModelFolderError(
            f"{HUB}{repository}: {revision!r} can be no revision; give a branch, a tag or a commit"
        )
    return HubModel(repository, revision)


def tuned_folder(name: str | Path | None) -> Path | None:
    """Return the folder of this machine that is meant; None where it is the name of a backbone.

    Models of the hub are those of `zsvg.grounding.hub.folder_of`. The name `micro` is always the
    embedded backbone; a folder of that name is `./micro`.

    Raises:
        ModelFolderError: There is a folder of this name, but no model in it.
    """
    if name is None or name == "micro":  # which no Path equals
        return None
    folder = local(name, "a model")
    if (folder / MANIFEST).is_file():
        return folder
    if folder.is_dir():
        raise ModelFolderError(f"{folder}: there is no {MANIFEST}; is this a zsvg model folder?")
    return None


def files_read(name: str) -> tuple[str, ...]:
    """Return the suffixes of the files, besides videos, that the backbone of that name reads."""
    return CAPTION_FILES if name.startswith(PREFIX) else ()


def check_model(name: str | None) -> None:
    """Refuse what can be neither a model folder nor the name of a backbone; the hub is not asked.

    Raises:
        BackboneError: There is no such backbone.
        ModelFolderError: It is a folder without a model, or no name that the hub can know.
    """
    if hub_model(name) or tuned_folder(name):
        return
    if not (name or "").startswith(PREFIX):
        check_backbone(name)


def check_backbone(name: str | None, architectures: Sequence[str] | None = None) -> None:
    """Refuse what can be no backbone that makes features of frames; weights are not looked for.

    Args:
        name: As of `zsvg.backbones.clip.load_backbone`.
        architectures: The ARCH that there are; by default those that open_clip ships.

    Raises:
        BackboneError: There is no such backbone.
    """
    if not name:
        raise BackboneError(f"no backbone is named; {SUGGESTION}")
    if name.startswith(PREFIX):
        raise BackboneError(
            f"backbone {name!r} answers queries (ground, predict), but does not make frame "
            f"features to label or tune with; {SUGGESTION}"
        )
    schema, _, rest = name.partition(":")
    if name in ("micro", STORED) or (schema == "hf-hub" and rest):
        return
    if schema == "local-dir":
        folder = local(rest, "a backbone").expanduser()
        if not rest or not (folder / "open_clip_config.json").is_file():
            raise BackboneError(
                f"backbone {name!r}: no open_clip_config.json in {folder}; give a folder written "
                "by open_clip"
            )
        return
    local(name, "a backbone")
    architecture, slash, _ = name.partition("/")
    known = _shipped() if architectures is None else architectures
    if not slash or (known and architecture not in known):
        close = difflib.get_close_matches(architecture, known, n=1)
        hint = f" (did you mean {close[0]}/TAG?)" if close and slash else ""
        raise BackboneError(f"unknown backbone {name!r}{hint}; {SUGGESTION}")


def check_captioner(name: str | None) -> None:
    """Refuse what can be no captioner; weights are not looked for.

    Args:
        name: As of `zsvg.backbones.captioner.load_captioner`.

    Raises:
        BackboneError: There is no such captioner.
    """
    if name is None:
        raise BackboneError(
            f"no captioner is named (--captioner, $ZSVG_CAPTIONER); try {CAPTIONER} (download "
            "about 990 MB), or micro, which is embedded and understands only microworld"
        )
    if name.startswith(ENDPOINT):  # whose address may hold a password: it is not repeated
        raise BackboneError(
            "a captioner behind an endpoint (openai:...) is asked by `zsvg pseudo-label` alone; "
            f"here, name one that runs on this machine, such as {CAPTIONER}"
        )
    if name != "micro" and not _folder_or_hub(name):
        raise BackboneError(
            f"unknown captioner {name!r}: it is neither 'micro', nor a folder, nor an ORG/NAME "
            f"of the Hugging Face Hub such as {CAPTIONER}"
        )


def check_labeller(name: str | None) -> None:
    """Refuse what can be neither a captioner nor one behind an endpoint; nothing is asked.

    Args:
        name: As of `zsvg.backbones.endpoint.load_labeller`.

    Raises:
        BackboneError: There is no such captioner, or no such address.
    """
    if endpoint_of(name) is None:
        check_captioner(name)


def check_text_model(name: str) -> None:
    """Refuse what can be neither a text model nor one behind an endpoint; nothing is asked.

    Args:
        name: As of `zsvg.backbones.text_model.load_text_model`.

    Raises:
        BackboneError: There is no such model, or no such address.
    """
    if endpoint_of(name) is None and not _folder_or_hub(name):
        raise BackboneError(
            f"unknown text model {name!r}: it is neither openai:MODEL@URL, nor a folder, nor an "
            "ORG/NAME of the Hugging Face Hub"
        )


class Address(NamedTuple):
    """Where a model answers.

    Attributes:
        model: Its name there.
        url: Of the API, without a slash at the end.
    """

    model: str
    url: str

    @property
    def host(self) -> str:
        """The host, with the port where one is named."""
        return urlsplit(self.url).netloc


def endpoint_of(name: str | None) -> Address | None:
    """Return where the model of "openai:MODEL@http://HOST/v1" is; None for names of another kind.

    Raises:
        BackboneError: There is no model or host in it, or more than those: a user, a query.
    """
    if name is None or not name.startswith(ENDPOINT):
        return None
    found = re.fullmatch(r"(.+?)@(https?://.+?)/*", name.removeprefix(ENDPOINT))
    try:
        parts = urlsplit(found[2] if found else "")
        whole = bool(parts.hostname) and parts.port != 0  # no number: ValueError
    except ValueError:
        whole = False
    if found is None or not whole or any(map(str.isspace, name)):
        raise BackboneError(
            "a captioner behind an endpoint is named openai:MODEL@URL, such as "
            "openai:Qwen/Qwen3-VL-8B-Instruct@http://localhost:8000/v1"
        )
    if "@" in parts.netloc or parts.query or parts.fragment:  # perhaps a secret: not repeated
        raise BackboneError(
            f"openai:{found[1]}@...: the address is to be {parts.scheme}://HOST:PORT/PATH alone; a "
            "key is read from $OPENAI_API_KEY"
        )
    return Address(found[1], found[2])


def check_recogniser(name: str) -> None:
    """Refuse what can be no recogniser of speech; weights are not looked for.

    Args:
        name: As of `zsvg.transcripts.speech.load_recogniser`.

    Raises:
        BackboneError: There is no such recogniser.
    """
    if not _folder_or_hub(name):
        raise BackboneError(
            f"unknown recogniser {name!r}: it is neither a folder nor an ORG/NAME of the Hugging "
            f"Face Hub such as {RECOGNISER} (download about 290 MB)"
        )


def check_sentence_model(name: str) -> None:
    """Refuse what can be no model of sentences; weights are not looked for.

    Args:
        name: As of `zsvg.backbones.captions.load_sentence_model`.

    Raises:
        BackboneError: There is no such model.
    """
    if not _folder_or_hub(name):
        raise BackboneError(
            f"unknown sentence model {name!r}: it is neither a folder nor an ORG/NAME of the "
            f"Hugging Face Hub such as {SENTENCES} (download about 90 MB)"
        )


def _folder_or_hub(name: str) -> bool:
    """Whether a name is that of a folder, or may be an ORG/NAME of the hub."""
    bare = name.removeprefix("local-dir:")
    hub = name.count("/") == 1 and not name.startswith(("local-dir:", "/", ".", "~"))
    return hub or bool(bare and local(bare, "a model").expanduser().is_dir())


def _shipped() -> list[str]:
    """Return the architectures that lie in open_clip; none where it keeps them in another way."""
    spec = find_spec("open_clip")
    folders = (spec and spec.submodule_search_locations) or ()
    files = (file for folder in folders for file in Path(folder).glob("model_configs/*.json"))
    return sorted(file.stem for file in files)
