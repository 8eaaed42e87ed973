"""Every endpoint that the installed Stripe SDK knows: its services are walked, their methods called, nothing sent."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import inspect
import typing
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import stripe
import typing_extensions
from stripe._request_options import RequestOptions
from stripe._stripe_service import StripeService

DEEPEST = 8
OPTIONS = RequestOptions.__annotations__.keys()
"""What v1 takes beside its parameters: it is sent in headers."""


@dataclasses.dataclass(frozen=True)
class SdkEndpoint:
    """One method of one service."""

    operation: str
    """Attribute path below the client and its API version: `charges.create`, `v2.core.events.list`."""
    method: str
    path: str
    """With `{name}` for what the method takes by position."""
    base: str
    """Which of the vendor's addresses it is sent to: `api`, `files`, …"""
    params: frozenset[str]
    """Full names of all parameters, lists without an index: `line_items[price_data][unit_amount]`."""
    required: frozenset[str]
    """Those of the outermost that must be there."""

    @property
    def pattern(self) -> str:
        """As a pack writes it."""
        return f"{self.method} {self.path}"

    def shape(self) -> str:
        """The pattern without the names in braces: equal for templates that match the same paths."""
        return shape(self.pattern)


def shape(pattern: str) -> str:
    """`GET /v1/charges/{charge}` → `GET /v1/charges/{}`."""
    return "/".join("{}" if part.startswith("{") else part for part in pattern.split("/"))


class Recorder:
    """Stands in the place of the SDK's own sender and keeps what it is told to send."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []

    def request(self, method: str, url: str, *_: Any, base_address: str, **__: Any) -> None:
        """What every method of a service ends with."""
        self.sent.append((method.upper(), unquote(url), base_address))

    request_stream = request


@functools.cache
def endpoints() -> tuple[SdkEndpoint, ...]:
    """All of them, in the SDK's order."""
    client = stripe.StripeClient("sk_test_none")
    recorder = Recorder()
    found: list[SdkEndpoint] = []
    for version, prefix in ((client.v1, ""), (client.v2, "v2.")):
        found.extend(walk(type(version)(recorder), recorder, prefix))
    return tuple(found)


def walk(service: StripeService, recorder: Recorder, prefix: str) -> Iterator[SdkEndpoint]:
    """The endpoints of a service and of those below it."""
    for name, method in inspect.getmembers(type(service), inspect.isfunction):
        if name.startswith("_") or name.endswith("_async"):
            continue
        signature = inspect.signature(method)
        placed = [
            name for name, given in signature.parameters.items() if given.kind is inspect.Parameter.POSITIONAL_ONLY
        ]
        ids = [f"{{{name}}}" for name in placed if name != "self"]
        recorder.sent.clear()
        getattr(service, name)(*ids, params={})
        ((verb, url, base),) = recorder.sent
        kind = params_type(type(service), signature)
        yield SdkEndpoint(
            f"{prefix}{name}", verb, url, base, frozenset(names(kind)), frozenset(kind.__required_keys__) - OPTIONS
        )
    for name in vars(type(service)).get("__annotations__", {}):
        if not name.startswith("_"):
            yield from walk(getattr(service, name), recorder, f"{prefix}{name}.")


def params_type(service: type, signature: inspect.Signature) -> Any:
    """The type of a method's parameters, which its module imports for type checkers only."""
    wanted = signature.parameters["params"].annotation
    if not isinstance(wanted, str):
        (wanted,) = (inner.__forward_arg__ for inner in typing.get_args(wanted) if isinstance(inner, typing.ForwardRef))
    module = ast.parse(inspect.getsource(inspect.getmodule(service)))  # type: ignore[arg-type]
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and any(alias.name == wanted for alias in node.names):
            return getattr(importlib.import_module(str(node.module)), wanted)
    raise LookupError(wanted)


def names(kind: Any, above: str = "", depth: int = 0) -> Iterator[str]:
    """Full names of what a type of parameters holds."""
    if depth > DEEPEST:
        return
    if typing_extensions.is_typeddict(kind):
        hints = typing_extensions.get_type_hints(kind, localns={"StripeContext": str, "Mapping": typing.Mapping})
        for name in hints.keys() - OPTIONS:
            inner = hints[name]
            full = f"{above}[{name}]" if above else name
            yield full
            yield from names(inner, full, depth + 1)
    for inner in typing.get_args(kind):
        yield from names(inner, above, depth + 1)
