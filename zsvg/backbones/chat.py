"""Asking a server that speaks OpenAI's chat protocol: several questions at a time, each once.

The client `openai` waits and tries again where a server is busy (429, with its Retry-After), fails
or is silent. The key is that of $OPENAI_API_KEY. It goes to the host that is named and nowhere
else: no redirect is followed, and it is taken out of all that comes back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from io import BytesIO
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsvg.backbones.names import Address
from zsvg.backbones.questions import NoAnswer, Question, checked
from zsvg.errors import BackboneError, EndpointError

_log = logging.getLogger(__name__)

KEY = "OPENAI_API_KEY"

REQUESTS = 4
RETRIES = 4
TIMEOUT = 120.0
"""Requests in flight; how often one is repeated (after 0.5 s, 1 s, 2 s ...); seconds of silence."""

MOST_LOST = 20
"""Questions without an answer, one after the other, at which a server is given up."""

# What a server says of a field that it does not take; the next question goes without.
_REFUSAL = re.compile(
    r"(?:un|not )(?:supported|known|expected|recogni[sz]ed)|not (?:allowed|permitted)", re.I
)


class Chat:
    """A model behind an endpoint. Nothing is sent before it is asked.

    Attributes:
        address: Model and URL.
        with_key: Whether there is a key to send.
        told: How many questions were "asked" and "lost", and the tokens "in" and "out" as the
            server counts them.
    """

    def __init__(
        self,
        address: Address,
        *,
        requests: int | None = None,
        retries: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """Take an address.

        Args:
            address: Model and URL.
            requests: Most requests in flight, at least 1; `REQUESTS` by default.
            retries: How often a request that failed is repeated; `RETRIES` by default.
            timeout: Seconds of silence after which a request failed; `TIMEOUT` by default.

        Raises:
            BackboneError: There is nothing to ask with.
            ValueError: Less than one request.
        """
        self._requests = REQUESTS if requests is None else requests
        if self._requests < 1:
            raise ValueError(f"requests must be at least 1, got {requests}")
        if find_spec("openai") is None:
            raise BackboneError(
                f"openai:{address.model}: needs the client openai: pip install 'zsvg[endpoint]'"
            )
        self.address = address
        self.told: Counter[str] = Counter()
        own = os.environ.get(KEY)
        self.with_key = bool(own)
        self._key = own or "none"  # servers of one's own mostly want none
        self._retries = RETRIES if retries is None else retries
        self._timeout = TIMEOUT if timeout is None else timeout
        self._refused: set[str] = set()
        self._lost_in_a_row = 0

    def __str__(self) -> str:
        return f"{self.address.model} at {self.address.host}"

    def ask(
        self, questions: Mapping[str, Question], keep: Callable[[str, str], None]
    ) -> dict[str, str | NoAnswer]:
        """Ask, and return the answers by the names of the questions.

        It runs in a thread with a loop of its own: a notebook has one already, and Ctrl-C ends it.

        Args:
            questions: By any names.
            keep: Called with name and answer as soon as there is one, one at a time.

        Raises:
            EndpointError: There is no server, it refuses all, or fails again and again.
        """
        from anyio.from_thread import start_blocking_portal

        with start_blocking_portal() as portal:
            return portal.call(self._gather, questions, keep)

    async def _gather(
        self, questions: Mapping[str, Question], keep: Callable[[str, str], None]
    ) -> dict[str, str | NoAnswer]:
        import openai

        gate = asyncio.Semaphore(self._requests)
        async with openai.AsyncOpenAI(
            api_key=self._key,
            base_url=self.address.url,
            max_retries=self._retries,
            timeout=self._timeout,
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
        ) as client:
            over = False

            async def one(name: str) -> tuple[str, str | NoAnswer]:
                nonlocal over
                async with gate:
                    if over:  # those that wait ask no server that was given up
                        raise asyncio.CancelledError
                    try:
                        text = await self._ask(client, questions[name])
                    except NoAnswer as why:
                        over = self._lost_in_a_row + 1 >= MOST_LOST
                        return name, self._lose(why)
                    except EndpointError:
                        over = True
                        raise
                self._lost_in_a_row = 0
                self.told["asked"] += 1
                keep(name, text)
                return name, text

            return dict(await asyncio.gather(*map(one, questions)))

    def _lose(self, why: NoAnswer) -> NoAnswer:
        self.told["lost"] += 1
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= MOST_LOST:
            raise EndpointError(
                f"{self}: no answer to the last {MOST_LOST} questions ({why}); the same command "
                "goes on once the server is well"
            )
        return why

    async def _ask(self, client: Any, question: Question) -> str:
        """Return one answer, without the fields that the server refused.

        Raises:
            NoAnswer: There is none, or none that can be used.
            EndpointError: There will be no answer to any question.
        """
        import openai

        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": _jpeg(one)}} for one in question.pictures
        ]
        content.append({"type": "text", "text": question.text})
        message = {"role": "user", "content": content}
        while True:
            fields = {
                name: value for name, value in question.fields.items() if name not in self._refused
            }
            try:
                answer = await client.chat.completions.create(
                    model=self.address.model, messages=[message], **fields
                )
            except openai.APIStatusError as error:
                if not self._goes_without(error, fields):
                    raise self._bad_status(error) from None
            except openai.APIConnectionError as error:
                raise self._no_connection(error) from None
            except (openai.OpenAIError, ValueError) as error:
                raise NoAnswer(f"an answer that is no JSON: {self._said(error)}") from None
            else:
                text = checked(question, self._text(answer))
                if isinstance(text, NoAnswer):
                    raise text
                return text

    def _goes_without(self, error: Any, fields: Mapping[str, Any]) -> bool:
        """Whether the server refuses fields that it can be asked without; they are left out then.

        So do reasoning models with `temperature`, or with `max_tokens` for its new name.
        """
        said = self._said(error)
        refused = {name for name in fields if name in said}
        if error.status_code not in (400, 422) or not refused or not _REFUSAL.search(said):
            return False
        if fresh := refused - self._refused:
            names = ", ".join(sorted(fresh))
            _log.warning("%s takes no %s; it is asked without", self, names)
        self._refused |= refused
        return True

    def _bad_status(self, error: Any) -> Exception:
        """Return the error of a status that is none of success, without what it is repeated for."""
        status, place = error.status_code, error.response.headers.get("location")
        said = self._said(error)
        if 300 <= status < 400:
            return EndpointError(
                f"{self}: redirects to {self._said(place)}, where neither pictures nor "
                "a key are sent; name that address if it is meant"
            )
        if status in (401, 403):
            return EndpointError(f"{self}: {said}; is ${KEY} the right key?")
        if status == 404:
            return EndpointError(f"{self}: {said}; check the model's name and the address")
        return NoAnswer(said)

    def _no_connection(self, error: Any) -> Exception:
        import httpx
        import openai

        if isinstance(error.__cause__, (httpx.ConnectError, httpx.ConnectTimeout)):
            why = self._said(error.__cause__)
            return EndpointError(
                f"{self}: {self.address.host} cannot be reached ({why}); start the server or "
                "check the address, the same command goes on then"
            )
        if isinstance(error, openai.APITimeoutError):
            return NoAnswer(f"no answer within {self._timeout:g} s")
        return NoAnswer(f"the connection broke: {self._said(error.__cause__ or error)}")

    def _text(self, answer: Any) -> str:
        """Return the sentence of an answer, whatever came instead of one."""
        for name, field in (("in", "prompt_tokens"), ("out", "completion_tokens")):
            count = getattr(getattr(answer, "usage", None), field, None)
            self.told[name] += count if isinstance(count, int) else 0
        try:
            said = answer.choices[0].message.content
        except (AttributeError, IndexError, KeyError, TypeError):
            said = None
        if not isinstance(said, str):
            raise NoAnswer("an answer without a text")
        # What a model thinks aloud before the answer is no part of it.
        text = " ".join(self._hidden(said.rpartition("</think>")[2]).split())
        if not text:
            raise NoAnswer("an empty answer")
        return text

    def _said(self, error: object) -> str:
        """Return what a server says of a request, on one line of bounded length."""
        return shorten(self._hidden(str(error)), 300, placeholder=" ...").rstrip(".")

    def _hidden(self, text: str) -> str:
        """Take the key out of what a server says; one of a few letters is no secret, but a word."""
        return text.replace(self._key, "***") if len(self._key) >= 8 else text


def _jpeg(frame: NDArray[np.uint8]) -> str:
    """Return a picture as the data URL of a JPEG."""
    from PIL import Image

    Image.fromarray(frame).save(target := BytesIO(), "JPEG", quality=90)
    return f"data:image/jpeg;base64,{b64encode(target.getvalue()).decode()}"
