"""Lines of `VID start end##sentence`: Charades-STA, ViGA's glances, SPL's pseudo queries.

Times are seconds already. None of the three has durations.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from zsvg.datasets.reading import numbered_lines, written_number
from zsvg.datasets.rules import Row
from zsvg.errors import RecordError
from zsvg.strict_json import quoted

_GLANCE = re.compile(r"\s*[0-9.]+\s*##")


def charades_sta(text: str, path: str | Path) -> Iterator[Row]:
    """Read `VID start end##sentence`.

    Charades-STA (Gao et al., "TALL", ICCV 2017): charades_sta_train.txt and charades_sta_test.txt,
    as in jiyanggao/TALL, microsoft/VideoX (2D-TAN) and IsaacChanghau/VSLNet.
    """
    for where, vid, window, sentence in _lines(text, path):
        if _GLANCE.match(sentence):
            raise RecordError(
                f"{where}: {quoted(sentence)} begins with a glance; use the form viga"
            )
        yield Row(where=where, vid=vid, query=sentence, windows=(window,))


def viga(text: str, path: str | Path) -> Iterator[Row]:
    """Read `VID start end##glance##sentence`; the glance, in seconds, is kept under `glance`.

    Charades-STA with one annotated time point per query (Cui et al., "Video Moment Retrieval from
    Text Queries via Single Frame Annotation", SIGIR 2022; r-cui/ViGA).
    """
    for where, vid, window, rest in _lines(text, path):
        glance, mark, sentence = rest.partition("##")
        if not mark:
            raise RecordError(f"{where}: {quoted(rest)} has no glance; use the form charades-sta")
        extra = {"glance": written_number(glance.strip(), "glance", where)}
        yield Row(where=where, vid=vid, query=sentence, windows=(window,), extra=extra)


def spl(text: str, path: str | Path) -> Iterator[Row]:
    """Read pseudo labels in the form of Charades-STA; adds `source` and `weight`.

    SPL (Zheng et al., "Generating Structured Pseudo Labels for Noise-resistant Zero-shot Video
    Sentence Localization", ACL 2023; minghangz/SPL): charades_sta_train_pseudo.txt.
    """
    for where, vid, window, sentence in _lines(text, path):
        extra = {"source": {"proposals": "spl"}, "weight": 1.0}
        yield Row(where=where, vid=vid, query=sentence, windows=(window,), extra=extra)


def _lines(text: str, path: str | Path) -> Iterator[tuple[str, str, tuple[float, float], str]]:
    for where, line in numbered_lines(text, path):
        head, mark, rest = line.partition("##")
        parts = head.split()
        if not mark or len(parts) != 3:
            raise RecordError(f'{where}: {quoted(line)} is not "VID start end##sentence"')
        vid, start, end = parts
        window = (written_number(start, "start", where), written_number(end, "end", where))
        yield where, vid, window, rest
