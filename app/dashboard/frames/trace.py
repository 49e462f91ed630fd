"""Tables of a trace, a search and their documents and rows: one tidy row a fact."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from app.dashboard.addresses import document_address, row_address

if TYPE_CHECKING:
    from pipelines.holders import RankedDocument
    from pipelines.searching import FoundRow
    from pipelines.tracing import NextToken, Trace, TracedRow, TracedToken
    from stores.queries import HeldBy

BASE = "base"
"""What the base is called where pools have their domain's name. A domain of this name is told
apart by its `pool: ` before it."""
INJECTED = "with pools"
"""What the mixture is called beside the base."""
_SMALL = 0.005
"""A share of less would be rounded to 0%."""
_SIGNS = {"\n": "⏎", "\r": "␍", "\t": "⇥", "\u2028": "⏎", "\u2029": "⏎"}


def visible(text: str) -> str:
    """Return a token so that its blanks and line ends are seen.

    Example:
        >>> visible(" fever"), visible("\\n")
        ('␣fever', '⏎')
    """
    return "".join("␣" if sign == " " else _sign(sign) for sign in text) or "∅"


def _sign(sign: str) -> str:
    """Return a character as it is drawn: what has no picture gets one."""
    if sign in _SIGNS:
        return _SIGNS[sign]
    return "·" if unicodedata.category(sign).startswith("C") else sign


def columns_of(text: str) -> int:
    """Return how many columns of a fixed-width font a text takes.

    Example:
        >>> columns_of("ab"), columns_of("\u6f22"), columns_of("e\u0301")
        (2, 2, 1)
    """
    return sum(
        0 if unicodedata.combining(sign) else 1 + (unicodedata.east_asian_width(sign) in "WF")
        for sign in text
    )


def name_of(domain: str) -> str:
    """Return what a pool is called in tables and legends.

    Example:
        >>> name_of("law"), name_of("base")
        ('law', 'pool: base')
    """
    return f"pool: {domain}" if domain in (BASE, INJECTED) else domain


def laid_out(tokens: Sequence[TracedToken], *, num_columns: int = 96) -> pd.DataFrame:
    """Return where each token stands when a text is set in lines, and who has most weight there.

    Lines break before a word, as in print; a line end in the text ends a line.

    Args:
        tokens: of a trace.
        num_columns: of a fixed-width font, in a line.

    Returns: a row a token: token (from 1), seen and shown (its blanks as signs, and left out at
        its ends), line, start and end of its ground, left of its letters, speaker, weight, losses.
    """
    rows = []
    line = place = 0
    words = _words(tokens)
    for number, token in enumerate(tokens):
        shown = "".join(_sign(sign) for sign in token.text) or "∅"
        width = columns_of(shown)
        if place and place + max(width, words[number]) > num_columns:
            line, place = line + 1, 0
        if place == 0:  # no line begins with a blank
            shown = shown.lstrip(" ") or shown
            width = columns_of(shown)
        speaker, weight = _speaker(token)
        rows.append(
            {
                "token": number + 1,
                "shown": shown.strip(" "),
                "line": line,
                "start": place,
                "end": place + width,
                "left": place + len(shown) - len(shown.lstrip(" ")),
                "speaker": speaker,
                "weight": weight,
                "seen": visible(token.text),
                "base": -token.base_log_prob,
                "mixture": -token.log_prob,
            }
        )
        place += width
        if "\n" in token.text:
            line, place = line + 1, 0
    return pd.DataFrame(rows)


def _words(tokens: Sequence[TracedToken]) -> list[int]:
    """Return how many columns are left of a word, from each token that begins one; else 0."""
    found, width = [0] * len(tokens), 0
    for number in range(len(tokens) - 1, -1, -1):
        text = tokens[number].text
        width += columns_of(text)
        if number == 0 or text[:1].isspace() or tokens[number - 1].text[-1:].isspace():
            found[number], width = width, 0
    return found


def _speaker(token: TracedToken) -> tuple[str, float]:
    """Return who has most weight where a token is predicted, and how much."""
    weights = {BASE: token.base_weight, **{name_of(d): w for d, w in token.weights.items()}}
    speaker = max(weights, key=lambda name: weights[name])
    return speaker, weights[speaker]


def weights_over_tokens(tokens: Sequence[TracedToken]) -> pd.DataFrame:
    """Return every branch's weight where each token is predicted: token, seen, who, weight."""
    return pd.DataFrame(
        [
            (number, visible(token.text), who, weight)
            for number, token in enumerate(tokens, start=1)
            for who, weight in (
                (BASE, token.base_weight),
                *((name_of(domain), weight) for domain, weight in token.weights.items()),
            )
        ],
        columns=["token", "seen", "who", "weight"],
    )


def weights_in_words(base_weight: float, weights: Mapping[str, float]) -> str:
    """Return how much the pools and the base count, whoever counts most first.

    Args:
        base_weight: 0 to 1.
        weights: of the pools, by domain.

    Example:
        >>> weights_in_words(0.004, {"law": 0.996}), weights_in_words(1.0, {})
        ('law >99%, base <1%', 'base 100%')
    """
    everyone = {**{name_of(domain): w for domain, w in weights.items()}, BASE: base_weight}
    ranked = sorted(everyone, key=lambda who: -everyone[who])
    return ", ".join(f"{who} {_percent(everyone[who])}" for who in ranked)


def _percent(share: float) -> str:
    """Return a share so that only nothing is 0% and only all is 100%."""
    if 0 < share < _SMALL:
        return "<1%"
    if 1 - _SMALL < share < 1:
        return ">99%"
    return f"{share:.0%}"


def losses(trace: Trace) -> tuple[float, float]:
    """Return the text's loss under the base and under the mixture, nats a token."""
    num = max(1, len(trace.tokens))
    return (
        -sum(token.base_log_prob for token in trace.tokens) / num,
        -sum(token.log_prob for token in trace.tokens) / num,
    )


def next_tokens(base: Sequence[NextToken], injected: Sequence[NextToken]) -> pd.DataFrame:
    """Return both distributions of the token after the text: who, rank, candidate, probability."""
    return pd.DataFrame(
        [
            (who, rank, f"{rank}. {visible(one.text)}", one.probability)
            for who, found in ((BASE, base), (INJECTED, injected))
            for rank, one in enumerate(found, start=1)
        ],
        columns=["who", "rank", "candidate", "probability"],
    )


def traced_rows(rows: Iterable[TracedRow], labels: Mapping[str, str]) -> pd.DataFrame:
    """Return rows that fired: domain, expert (layer and row), strength, router weight, open.

    Args:
        rows: in their order.
        labels: of versions, by the id of their last segment.
    """
    return pd.DataFrame(
        [
            (
                one.domain,
                f"{one.host_layer}:{one.row}",
                one.strength,
                one.weight,
                row_address(one.domain, labels[one.segment_id], one.host_layer, one.row),
            )
            for one in rows
        ],
        columns=["domain", "expert", "strength", "router weight", "open"],
    )


def found_rows(rows: Iterable[FoundRow], labels: Mapping[str, str]) -> pd.DataFrame:
    """Return rows that a text would ask: domain, expert (layer and row), router weight, open.

    Args:
        rows: in their order.
        labels: of versions, by the id of their last segment.
    """
    return pd.DataFrame(
        [
            (
                one.domain,
                f"{one.host_layer}:{one.row}",
                one.weight,
                row_address(one.domain, labels[one.segment_id], one.host_layer, one.row),
            )
            for one in rows
        ],
        columns=["domain", "expert", "router weight, summed", "open"],
    )


def ranked_documents(documents: Iterable[RankedDocument]) -> pd.DataFrame:
    """Return documents in their order: domain, document, likeness, cosine, kind, source, open.

    The likeness is the cosine's place between the median of the domain's documents (0) and 1.
    """
    return pd.DataFrame(
        [
            (
                one.domain,
                one.title,
                _likeness(one),
                one.score,
                one.kind,
                one.source,
                document_address(one.document_id),
            )
            for one in documents
        ],
        columns=["domain", "document", "likeness", "cosine", "kind", "source", "open"],
    )


def _likeness(document: RankedDocument) -> float:
    """Return how far a document's score lies above its domain's median, 0 to 1."""
    room = 1.0 - document.median
    return min(1.0, max(0.0, (document.score - document.median) / room)) if room > 0 else 0.0


def documents_of_rows(
    held: Mapping[str, Sequence[HeldBy]],
    weights: Mapping[str, float],
    num_learned: Mapping[str, int],
    num: int = 10,
) -> pd.DataFrame:
    """Return the documents that some rows hold, those with the largest shares of them first.

    Args:
        held: by domain, what each of its rows holds.
        weights: of the domains' pools; a row counts by its pool's.
        num_learned: of how many documents each segment's use was recorded, by its id.
        num: how many documents.

    Returns: domain, document, times even (its share of a row of its domain, on average, where 1 is
        the share of each if all learned documents used the row alike), open.
    """
    titles: dict[tuple[str, str], str] = {}
    shares: dict[tuple[str, str], float] = {}
    for domain, rows in held.items():
        for row in rows:
            for document, share in zip(row.documents, row.shares, strict=True):
                key = domain, document.document_id
                titles[key] = document.title
                times_even = share * num_learned[row.use.segment_id]
                shares[key] = shares.get(key, 0.0) + times_even / len(rows)
    ranked = sorted(shares, key=lambda key: (-weights[key[0]] * shares[key], key))[:num]
    return pd.DataFrame(
        [(key[0], titles[key], shares[key], document_address(key[1])) for key in ranked],
        columns=["domain", "document", "times even", "open"],
    )
