"""What `zsvg pseudo-label` asks of models beside a caption, and what servers are told to expect."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zsvg.backbones.names import check_labeller, check_text_model, endpoint_of
from zsvg.cli import completion
from zsvg.errors import ZsvgError

if TYPE_CHECKING:
    from zsvg.label.asking import Asking
    from zsvg.label.instructions import Instructions

Ask = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Ask the captioner for more than a caption: rich, sentence, or a YAML file of yours.",
        autocompletion=completion.offer("rich", "sentence"),
    ),
]
Parts = Annotated[
    str | None,
    typer.Option(
        metavar="PART,...",
        help="Of --ask: only these parts of the answer, of sentences,who,object,borders,nearly.",
    ),
]
Rephrase = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="A text model that says sentences in other words: a hub id, a folder, or "
        "openai:MODEL@URL.",
    ),
]
Paraphrases = Annotated[
    int | None, typer.Option(min=1, help="Of --rephrase: wordings of each sentence; 2 by default.")
]
Verify = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="A model that says whether sentences hold, which decides weights: as --captioner.",
    ),
]
Requests = Annotated[
    int | None,
    typer.Option(min=1, help="Of openai:MODEL@URL: most requests in flight; 4 by default."),
]
Timeout = Annotated[
    float | None,
    typer.Option(help="Of openai:MODEL@URL: seconds of silence to bear; 120 by default."),
]
Price = Annotated[
    str | None,
    typer.Option(
        metavar="IN/OUT",
        help="Of openai:MODEL@URL: what a million tokens cost, such as 0.15/0.6.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class Given:
    """The options as they were given.

    Attributes:
        instructions: Of `--ask` and `--parts`.
        rephrase: Of the option of that name, like all others.
        paraphrases: Likewise.
        verify: Likewise.
        requests: Likewise.
        timeout: Likewise.
        prices: Of a million tokens in and out.
    """

    instructions: Instructions | None = None
    rephrase: str | None = None
    paraphrases: int | None = None
    verify: str | None = None
    requests: int | None = None
    timeout: float | None = None
    prices: tuple[float, float] | None = None

    @property
    def asks(self) -> dict[str, str | None]:
        """Options without a meaning where nobody is asked."""
        asks = None if self.instructions is None else "..."
        return {"--ask": asks, "--rephrase": self.rephrase, "--verify": self.verify}

    def view(self, view: str | None) -> str | None:
        """Return the view to take: one around the event, where its borders are asked for."""
        borders = self.instructions is not None and self.instructions.parts.borders is not None
        return view or ("around" if borders else None)

    def loaded(self, device: str | None, cache: Path, *, remote: bool = False) -> Asking:
        """Load the models that are asked beside the captioner; `remote` ones alone, or all."""
        from zsvg.backbones.endpoint import load_labeller
        from zsvg.backbones.text_model import load_text_model
        from zsvg.label.asking import Asking

        how: dict[str, Any] = {"cache": cache, "requests": self.requests, "timeout": self.timeout}
        rephraser = verifier = None
        if self.rephrase is not None and (not remote or endpoint_of(self.rephrase)):
            rephraser = load_text_model(self.rephrase, device, **how)
        if self.verify is not None and (not remote or endpoint_of(self.verify)):
            verifier = load_labeller(self.verify, device, **how)
        count = {} if self.paraphrases is None else {"paraphrases": self.paraphrases}
        return Asking(
            instructions=self.instructions, rephraser=rephraser, verifier=verifier, **count
        )

    @property
    def local(self) -> bool:
        """Whether models on this machine are asked beside the captioner."""
        return any(name and endpoint_of(name) is None for name in (self.rephrase, self.verify))


def given(
    captioner: str | None,
    ask: str | None,
    parts: str | None,
    rephrase: str | None,
    paraphrases: int | None,
    verify: str | None,
    requests: int | None,
    timeout: float | None,
    price: str | None,
) -> Given:
    """Check the options, before anything heavy is imported.

    Raises:
        ZsvgError: One has no meaning beside the others, or names nothing.
    """
    prices = _prices(price)
    servers = any(endpoint_of(name) is not None for name in (captioner, rephrase, verify))
    if (requests, timeout, prices) != (None, None, None) and not servers:
        raise ZsvgError(
            "--requests, --timeout and --price are of a captioner behind an endpoint, "
            "openai:MODEL@URL"
        )
    if timeout is not None and not timeout > 0:
        raise ZsvgError(f"--timeout {timeout:g}: it is a number of seconds above 0")
    if parts is not None and ask is None:
        raise ZsvgError(f"--parts {parts} is of --ask; name one, such as --ask rich")
    if paraphrases is not None and rephrase is None:
        raise ZsvgError(f"--paraphrases {paraphrases} is of --rephrase MODEL; name one")
    if rephrase is not None:
        check_text_model(rephrase)
    if verify is not None:
        check_labeller(verify)
    instructions = None
    if ask is not None:
        from zsvg.label.instructions import load_instructions

        instructions = load_instructions(ask)
        if parts is not None:
            instructions = instructions.only([part.strip() for part in parts.split(",")])
    return Given(
        instructions=instructions, rephrase=rephrase, paraphrases=paraphrases, verify=verify,
        requests=requests, timeout=timeout, prices=prices,
    )  # fmt: skip


def _prices(price: str | None) -> tuple[float, float] | None:
    """Return the prices of a million tokens in and out."""
    if price is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)", price.strip())
    if match is None:
        raise typer.BadParameter(f"--price {price}: say IN/OUT, such as 0.15/0.6")
    return float(match[1]), float(match[2])
