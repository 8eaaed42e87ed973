"""Stripe's own SDKs, unmodified, behind one face: a call, and what came back or was raised, as their users see it.

Both are given a vault key in the place of the secret key, and the address of one of Envoy's listeners; everything else
is as they come.
"""

from __future__ import annotations

import dataclasses
import json
import operator
import os
import subprocess
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Optional, Protocol

import stripe

NODE = Path(__file__).resolve().parent / "node"

RETRIES = 2
"""How often an SDK tries again: the default of the one for Node. A client of the one for Python has to be told."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What may be said beside a call's parameters."""

    idempotency_key: Optional[str] = None
    account: Optional[str] = None
    content_type: Optional[str] = None
    """Of a raw call only."""


NONE = Options()


@dataclasses.dataclass(frozen=True)
class Failure:
    """What an SDK raised."""

    kind: str
    """Its class, without the `Stripe` that Node's begin with."""
    status: Optional[int]
    code: Optional[str]
    """The exception's own `code`. Some classes of the Python SDK leave it empty."""
    message: str
    shown: str
    """The exception as a log shows it."""
    error: Mapping[str, Any]
    """The `error` of the answer behind it."""
    headers: Mapping[str, str]


class Sdk(Protocol):
    """A client of one SDK, with one vault key."""

    def __enter__(self) -> Sdk:
        """The client, for use."""

    def __exit__(self, kind: Optional[type], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        """Ends it."""

    def call(
        self, call: str, *ids: str, params: Optional[Mapping[str, Any]] = None, options: Options = NONE
    ) -> Mapping[str, Any]:
        """What `charges.create`, or a raw `POST /v1/charges`, returned. Fails when it raised."""

    def failure(
        self, call: str, *ids: str, params: Optional[Mapping[str, Any]] = None, options: Options = NONE
    ) -> Failure:
        """What it raised. Fails when it returned."""


class PythonSdk:
    """The one for Python."""

    def __init__(self, url: str, secret: str, retries: int = RETRIES) -> None:
        self._client = stripe.StripeClient(secret, base_addresses={"api": url}, max_network_retries=retries)

    def __enter__(self) -> PythonSdk:
        return self

    def __exit__(self, kind: Optional[type], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        """Nothing of it stays open."""

    def call(
        self, call: str, *ids: str, params: Optional[Mapping[str, Any]] = None, options: Options = NONE
    ) -> Mapping[str, Any]:
        """See `Sdk`."""
        told = {"idempotency_key": options.idempotency_key, "stripe_account": options.account}
        given: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
        verb, is_raw, path = call.partition(" ")
        if is_raw:
            body = {**(params or {}), **given, "content_type": options.content_type}
            answer: Any = self._client.raw_request(verb.lower(), path, **body)
            found: Mapping[str, Any] = answer.data
        else:
            method = operator.attrgetter(call)(self._client.v1)
            found = method(*ids, params=dict(params or {}), options=given).to_dict()
        return found

    def failure(
        self, call: str, *ids: str, params: Optional[Mapping[str, Any]] = None, options: Options = NONE
    ) -> Failure:
        """See `Sdk`."""
        try:
            found = self.call(call, *ids, params=params, options=options)
        except stripe.StripeError as error:
            body: Any = error.json_body
            return Failure(
                type(error).__name__,
                error.http_status,
                error.code,
                str(error.user_message),
                str(error),
                body["error"] if body else {},
                {name.lower(): value for name, value in (error.headers or {}).items()},
            )
        raise AssertionError(found)


class NodeSdk:
    """The one for Node, in a process of its own. It takes no path prefix."""

    def __init__(self, url: str, secret: str, retries: int = RETRIES) -> None:
        address = urllib.parse.urlsplit(url)
        assert address.path == "", url
        environment = {
            "PATH": os.environ["PATH"],
            "KEYBRAKE_VAULT_KEY": secret,
            "KEYBRAKE_HOST": str(address.hostname),
            "KEYBRAKE_PORT": str(address.port),
            "SDK_OPTIONS": json.dumps({"maxNetworkRetries": retries}),
        }
        self._node = subprocess.Popen(
            ["node", NODE / "sdk.mjs"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def __enter__(self) -> NodeSdk:
        return self

    def __exit__(self, kind: Optional[type], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        assert self._node.stdin is not None and self._node.stdout is not None
        self._node.stdin.close()
        if error is not None:
            # A call may still be at it.
            self._node.kill()
        self._node.wait(10)
        self._node.stdout.close()

    def call(
        self, call: str, *ids: str, params: Optional[Mapping[str, Any]] = None, options: Options = NONE
    ) -> Mapping[str, Any]:
        """See `Sdk`."""
        answer = self._answer(call, ids, params, options)
        assert "ok" in answer, answer
        found: Mapping[str, Any] = answer["ok"]
        return found

    def failure(
        self, call: str, *ids: str, params: Optional[Mapping[str, Any]] = None, options: Options = NONE
    ) -> Failure:
        """See `Sdk`."""
        answer = self._answer(call, ids, params, options)
        assert "error" in answer, answer
        raised = answer["error"]
        assert raised["isStripeError"], raised
        return Failure(
            raised["class"].removeprefix("Stripe"),
            raised["status"],
            raised["code"],
            raised["message"],
            raised["shown"],
            raised["raw"] or {},
            raised["headers"] or {},
        )

    def _answer(
        self, call: str, ids: tuple[str, ...], params: Optional[Mapping[str, Any]], options: Options
    ) -> dict[str, Any]:
        told = {"idempotencyKey": options.idempotency_key, "stripeAccount": options.account}
        given: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
        if options.content_type is not None:
            given["additionalHeaders"] = {"Content-Type": options.content_type}
        assert self._node.stdin is not None and self._node.stdout is not None
        line = {"call": call, "arguments": [*ids, dict(params or {}), given]}
        self._node.stdin.write(json.dumps(line) + "\n")
        self._node.stdin.flush()
        answer: dict[str, Any] = json.loads(self._node.stdout.readline())
        return answer


SDKS: Mapping[str, type[PythonSdk] | type[NodeSdk]] = {"python": PythonSdk, "node": NodeSdk}
"""All of them, by the language that they are for."""
