"""The tables of hostile requests in `hostile/*.jsonl`: a line is a case, unless it is empty or begins with `#`.

A case changes the usual charge (`POST /v1/charges`, a vault key, a form, an idempotency key that nobody has used):

- `name`: what is hostile about it
- `method`, `path`, `host`, `body`: other than usual
- `set`: headers with another value, or with none (null); `add`: further headers, a list of `[name, value]` or
  `[name, value, times]`
- `trailers`: what follows the body
- `by`: the only ways in when not by path prefix and by Stripe's listener: `prefix`, `listener`, `host` (of Stripe),
  `egress` (neither prefix nor Stripe's host), `acme` (the prefix of the other vendor)
- `only`: the only protocol that can carry it
- `grant`: fields of the vault key's grant

and says what has to come of it:

- `status` (0: the stream or connection is ended without an answer; a list: one of these) and `reason`, the refusal's
  code, when there is one; `h2` replaces both where HTTP/2's own framing forbids it already
- `known`: false when nobody can tell from it whose vault key it is, so that it is on nobody's record
- `vendor`: it counts as a normal request. Method and path that the vendor sees, for a money request once per way

A line with nothing but `usual` changes what the lines after it need not say.

Text is Latin-1: a character up to U+00FF is the byte of its number. In place of a text a list of texts and of
`[text, times]` may stand. Words with a dollar sign are filled in by `Words`.
"""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional, Union

from wire import Protocol

TABLES = Path(__file__).resolve().parent / "hostile"

Pieces = Union[str, Sequence[Union[str, tuple[str, int]]]]
By = Literal["prefix", "listener", "host", "egress", "acme"]
Pairs = tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a client is told."""

    status: int
    reason: Optional[str]


@dataclasses.dataclass(frozen=True)
class Expected:
    """Any of these statuses, and this reason."""

    statuses: tuple[int, ...]
    reason: Optional[str]

    def allows(self, verdict: Verdict) -> bool:
        """Whether the client may be told this. A stream that is ended without an answer tells no reason."""
        reason = self.reason if verdict.status else None
        return verdict.status in self.statuses and verdict.reason == reason


@dataclasses.dataclass(frozen=True)
class Case:
    """One line."""

    name: str
    expected: Mapping[Protocol, Expected]
    method: str = "POST"
    path: str = "/v1/charges"
    host: Optional[str] = None
    body: Optional[str] = None
    set: Mapping[str, Optional[str]] = dataclasses.field(default_factory=dict)
    add: Pairs = ()
    trailers: Pairs = ()
    by: tuple[By, ...] = ("prefix", "listener")
    grant: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    known: bool = True
    vendor: Optional[str] = None

    def __str__(self) -> str:
        return self.name


@dataclasses.dataclass(frozen=True)
class Words:
    """What stands for words with a dollar sign."""

    key: str

    def fill(self, text: str) -> str:
        """The text with its words filled in."""
        if "$" not in text:
            return text
        off = self.key[:-1] + ("0" if self.key[-1] != "0" else "1")
        live = "sk_live_" + "4" * 24
        words = {
            "$KEY": self.key,
            "$OFF": off,
            "$LIVE": live,
            "$BASIC_USER": _base64(f"{self.key}:"),
            "$BASIC_PASSWORD": _base64(f"user:{self.key}"),
            "$BASIC_BOTH": _base64(f"{self.key}:{self.key}"),
            "$BASIC_BARE": _base64(self.key),
            "$BASIC_LIVE": _base64(f"{live}:"),
        }
        for word in sorted(words, key=len, reverse=True):
            text = text.replace(word, words[word])
        return text


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def read(name: str) -> list[Case]:
    """The cases of one table."""
    return [_case(told) for told in lines(TABLES / f"{name}.jsonl")]


def lines(table: Path) -> list[dict[str, Any]]:
    """The lines of a table, with what is usual there filled in. Each name stands once."""
    found: list[dict[str, Any]] = []
    usual: dict[str, Any] = {}
    for line in table.read_text().splitlines():
        told = json.loads(line) if line and not line.startswith("#") else {}
        usual = told.pop("usual", usual)
        if told:
            found.append({**usual, **told})
    assert len({told["name"] for told in found}) == len(found), "a name stands twice"
    return found


def _case(told: dict[str, Any]) -> Case:
    protocols: list[Protocol] = [told.pop("only")] if "only" in told else ["h1", "h2"]
    h1 = _expected(told.pop("status"), told.pop("reason", None))
    h2 = _expected(**told.pop("h2")) if "h2" in told else h1
    expected: dict[Protocol, Expected] = {protocol: h1 if protocol == "h1" else h2 for protocol in protocols}
    for name in ("path", "body"):
        if name in told:
            told[name] = _text(told[name])
    told["set"] = {name: _text(value) if value is not None else None for name, value in told.get("set", {}).items()}
    for name in ("add", "trailers"):
        pairs = [(_text(pair[0]), _text(pair[1])) for pair in told.get(name, ()) for _ in range(*pair[2:] or (1,))]
        told[name] = tuple(pairs)
    if "by" in told:
        told["by"] = tuple(told["by"])
    return Case(expected=expected, **told)


def _expected(status: Union[int, list[int]], reason: Optional[str] = None) -> Expected:
    return Expected(tuple(status) if isinstance(status, list) else (status,), reason)


def _text(pieces: Pieces) -> str:
    if isinstance(pieces, str):
        return pieces
    return "".join(piece if isinstance(piece, str) else piece[0] * piece[1] for piece in pieces)
