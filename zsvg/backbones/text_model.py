"""A frozen text model of transformers on this machine: it answers questions about words."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from zsvg.backbones.base import pick_device
from zsvg.backbones.endpoint import Endpoint
from zsvg.backbones.names import check_text_model, endpoint_of
from zsvg.backbones.questions import NoAnswer, Question, checked
from zsvg.backbones.quiet import quiet
from zsvg.errors import BackboneError, reason
from zsvg.files import sha256_json, sha256_tensors


class TextModel:
    """A causal language model with a chat template. One lock covers each call.

    Attributes:
        name: As given to `load_text_model`.
        fingerprint: SHA-256 of weights, tokens and template.
        image_size: 1, as it is shown no pictures.
    """

    image_size = 1

    def __init__(self, name: str, model: Any, tokenizer: Any, device: str | torch.device) -> None:
        self.name = name
        self.device = torch.device(device)
        self.lock = threading.RLock()
        self.fingerprint = sha256_json(
            [
                sha256_tensors(model.state_dict()),
                sorted(tokenizer.get_vocab().items()),
                tokenizer.chat_template,
            ]
        )
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.model = model.to(self.device, dtype).eval().requires_grad_(False)
        self.tokenizer = tokenizer

    def answers(self, questions: Sequence[Question]) -> list[str | NoAnswer]:
        """Return the answer to each question, without randomness; pictures are not looked at."""
        found: list[str | NoAnswer] = []
        for question in questions:
            prompt = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": question.text}],
                add_generation_prompt=True,
                tokenize=False,
            )
            # The template writes the special tokens itself.
            inputs = self.tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
            inputs = inputs.to(self.device)
            with self.lock, quiet(), torch.inference_mode():
                tokens = self.model.generate(
                    input_ids=inputs["input_ids"],
                    attention_mask=inputs["attention_mask"],
                    max_new_tokens=int(question.fields["max_tokens"]),
                    do_sample=False,
                )
            said = tokens[0, inputs["input_ids"].shape[1] :]
            text = self.tokenizer.decode(said, skip_special_tokens=True)
            found.append(checked(question, " ".join(text.rpartition("</think>")[2].split())))
        return found


def load_text_model(
    name: str,
    device: str | None = None,
    *,
    cache: str | Path | None = None,
    requests: int | None = None,
    timeout: float | None = None,
) -> TextModel | Endpoint:
    """Load a text model, or take the address of one behind an endpoint.

    Args:
        name: A folder, an ORG/NAME of the Hugging Face Hub, or openai:MODEL@URL.
        device: Of a model on this machine; None chooses as for backbones.
        cache: Folder of answers of an endpoint.
        requests: Most requests in flight to an endpoint.
        timeout: Seconds of silence after which a request to an endpoint failed.

    Raises:
        BackboneError: There is no such model, or it has no chat template.
    """
    check_text_model(name)
    if endpoint_of(name) is not None:
        return Endpoint(name, cache=cache, requests=requests, timeout=timeout)
    folder = Path(name.removeprefix("local-dir:")).expanduser()
    local = folder.is_dir()
    source = str(folder) if local else name
    try:
        with quiet():
            model = transformers.AutoModelForCausalLM.from_pretrained(
                source, dtype="auto", local_files_only=local
            )
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, local_files_only=local)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BackboneError(
            f"text model {name!r} cannot be loaded: {reason(error)}; check the name and the "
            "network, or give a folder with a downloaded one"
        ) from error
    if not tokenizer.chat_template:
        raise BackboneError(
            f"text model {name!r} has no chat template; name one that follows instructions"
        )
    return TextModel(name, model, tokenizer, device or pick_device())
