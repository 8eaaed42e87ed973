"""Three readers of the same body: the filter's own, Ruby's (Rack and JSON), and Python's."""

from __future__ import annotations

import collections
import contextlib
import json
import re
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional

import acme

from stack.build import artifacts, cargo

RACK_READER = Path(__file__).resolve().parent / "rack_reader.rb"

Kind = Literal["form", "json"]


@dataclass(frozen=True)
class Body:
    """A request body."""

    kind: Kind
    content: bytes


@dataclass(frozen=True)
class Reading:
    """What a reader makes of a body: its fields by full name (`a[b][0]`), or why it makes nothing of it.

    Numbers are their text. A value of None is one that the reader does not keep exactly.
    """

    fields: Optional[dict[str, Optional[str]]]
    why: str = ""
    # What the filter would debit: amount and currency.
    cost: Optional[tuple[int, str]] = None
    # Fields that this reader takes for something else than a plain text (in JSON: than integer and text).
    odd: tuple[str, ...] = ()


class Process:
    """A reader in a process of its own that answers line by line."""

    def __init__(self, argv: Sequence[object]) -> None:
        # Ruby's JSON writes half a surrogate pair, which is no text.
        self.child = subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="surrogateescape",
        )

    def answers(self, bodies: Sequence[Body]) -> list[dict[str, Any]]:
        """One answer for each body."""
        asked, told = self.child.stdin, self.child.stdout
        assert asked is not None and told is not None
        lines = "".join(f"{body.kind} {body.content.hex()}\n" for body in bodies) + "\n"

        def ask() -> None:
            with contextlib.suppress(BrokenPipeError):
                asked.write(lines)
                asked.flush()

        # In a thread: nobody reads the rest while an answer waits in a full pipe.
        asking = threading.Thread(target=ask)
        asking.start()
        found = [told.readline() for _ in bodies]
        asking.join()
        assert all(found), f"{self.child.args!r} has ended"
        return [json.loads(line) for line in found]

    def end(self) -> None:
        """Ends it."""
        assert self.child.stdin is not None and self.child.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.close()
        self.child.stdout.close()
        self.child.wait(10)


class Readers:
    """All three, for as long as a run takes."""

    def __init__(self, ours: Process, ruby: Process) -> None:
        self._ours = ours
        self._ruby = ruby

    def ours(self, bodies: Sequence[Body]) -> list[Reading]:
        """The filter's reader, in which all rules of the vendor pack hold."""
        return [_our_reading(told) for told in self._ours.answers(bodies)]

    def ruby(self, bodies: Sequence[Body]) -> list[Reading]:
        """`Rack::Utils.parse_nested_query` and `JSON.parse`."""
        return [_ruby_reading(body, told) for body, told in zip(bodies, self._ruby.answers(bodies))]

    @staticmethod
    def python(bodies: Sequence[Body]) -> list[Reading]:
        """`urllib.parse.parse_qsl` and `json.loads`."""
        return [_python_form(body.content) if body.kind == "form" else _python_json(body.content) for body in bodies]


@contextlib.contextmanager
def readers(folder: Path) -> Iterator[Readers]:
    """Builds and starts them; `folder` is for the configuration."""
    cargo("the filter's reader", ["build", "-p", "keybrake-tests", "--bin", "readings"])
    configuration = folder / "plugin.json"
    configuration.write_text(json.dumps(acme.beside_stripe()))
    ours = Process([artifacts().wasm.parents[2] / "debug" / "readings", configuration])
    ruby = Process(["ruby", RACK_READER])
    try:
        yield Readers(ours, ruby)
    finally:
        ours.end()
        ruby.end()


def _our_reading(told: dict[str, Any]) -> Reading:
    if "refused" in told:
        return Reading(None, f"{told['refused']}: {told['why']}")
    cost = (told["amount"], told["currency"]) if told["amount"] is not None else None
    return Reading(told["fields"], cost=cost)


def _ruby_reading(body: Body, told: dict[str, Any]) -> Reading:
    if "error" in told:
        return Reading(None, told["error"])
    plain = {"amount": "String" if body.kind == "form" else "Integer", "currency": "String"}
    odd = tuple(name for name, kind in plain.items() if told["kinds"][name] != kind)
    return Reading({name: value if isinstance(value, str) else None for name, value in told["fields"].items()}, odd=odd)


def _python_form(content: bytes) -> Reading:
    try:
        text = content.decode()
        pairs = urllib.parse.parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError as error:
        return Reading(None, type(error).__name__)
    elements: collections.Counter[str] = collections.Counter()
    fields: dict[str, Optional[str]] = {}
    again = []
    for name, value in pairs:
        if name.endswith("[]"):
            array = name[:-2]
            full = f"{array}[{elements[array]}]"
            elements[array] += 1
        else:
            full = name
        again += [full] if full in fields else []
        fields[full] = value
    return Reading(fields, odd=(*again, *_alike([name for name, _ in pairs])))


def _alike(names: Sequence[str]) -> list[str]:
    """Names that a careless reader takes for one of the two that count, when there is more than one of them."""
    bare = [re.split(r"[\[\]\s\x00.]", name.strip())[0].lower() for name in names]
    return [name for name in ("amount", "currency") if bare.count(name) != 1]


def _python_json(content: bytes) -> Reading:
    again: list[str] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            again.append("a name that stands twice")
        return found

    try:
        read = json.loads(content.decode(), object_pairs_hook=members, parse_int=_Number, parse_float=_Number)
    except (ValueError, RecursionError) as error:
        return Reading(None, type(error).__name__)
    if not isinstance(read, dict):
        return Reading(None, "no object")
    odd = [] if isinstance(read.get("amount"), _Number) else ["amount"]
    odd += [] if type(read.get("currency")) is str else ["currency"]
    fields: dict[str, Optional[str]] = {}
    try:
        _flat(read, "", fields)
    except RecursionError:
        return Reading(None, "RecursionError")
    return Reading(fields, odd=(*odd, *again))


class _Number(str):
    """A number's text."""


def _flat(value: object, name: str, into: dict[str, Optional[str]]) -> None:
    if isinstance(value, dict) and (value or not name):
        for key, inner in value.items():
            _flat(inner, f"{name}[{key}]" if name else key, into)
    elif isinstance(value, list) and value:
        for at, inner in enumerate(value):
            _flat(inner, f"{name}[{at}]", into)
    else:
        into[name] = value if isinstance(value, str) else json.dumps(value)
