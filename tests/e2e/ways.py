"""Every way into the gate: by path prefix, by host, by Stripe's own listener; over HTTP/1.1 and HTTP/2; with trailers
and without. A verdict must not depend on the way."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Optional, Union

from harness import Keybrake, VaultKey, fresh_key
from wire import Headers, Protocol, Reply, exchange

FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Way:
    """One of them."""

    by: Literal["prefix", "host", "listener"]
    protocol: Protocol
    trailers: Headers

    def __str__(self) -> str:
        return "-".join([self.by, self.protocol, *(["trailers"] if self.trailers else [])])

    def send(
        self,
        kb: Keybrake,
        key: Union[VaultKey, str, None],
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Headers = (),
    ) -> Reply:
        """Sends a request of this vault key, or of this text as a bearer."""
        bearer = key.secret if isinstance(key, VaultKey) else key
        sent = [("authorization", f"Bearer {bearer}")] if bearer is not None else []
        ports = kb.stack.options.ports
        return exchange(
            self.protocol,
            ports.stripe if self.by == "listener" else ports.envoy,
            method,
            f"/stripe{path}" if self.by == "prefix" else path,
            [*sent, *headers],
            body,
            trailers=self.trailers,
            host="api.stripe.com" if self.by == "host" else None,
        )

    def post(
        self,
        kb: Keybrake,
        key: Union[VaultKey, str, None],
        path: str,
        form: Mapping[str, Any],
        *,
        idempotency_key: Optional[str] = None,
        headers: Headers = (),
    ) -> Reply:
        """A write with a form body and a new idempotency key, unless told otherwise."""
        body = urllib.parse.urlencode(form).encode()
        sent = [("content-type", FORM), ("idempotency-key", idempotency_key or fresh_key()), *headers]
        return self.send(kb, key, "POST", path, body=body, headers=sent)

    def charge(
        self,
        kb: Keybrake,
        key: Union[VaultKey, str, None],
        cents: int = 299,
        *,
        idempotency_key: Optional[str] = None,
        headers: Headers = (),
        **form: Any,
    ) -> Reply:
        """A charge on Stripe's test card."""
        body = {"amount": cents, "currency": "usd", "source": "tok_visa", **form}
        return self.post(kb, key, "/v1/charges", body, idempotency_key=idempotency_key, headers=headers)


_PROTOCOLS: tuple[Protocol, ...] = ("h1", "h2")
_BY: tuple[Literal["prefix", "host", "listener"], ...] = ("prefix", "host", "listener")
TRAILERS: Headers = (("x-checksum", "0"), ("x-agent-run-id", "from-a-trailer"))

WAYS = [Way(by, protocol, trailers) for by in _BY for protocol in _PROTOCOLS for trailers in ((), TRAILERS)]


def basic(user: str, password: str = "") -> tuple[str, str]:
    """An `Authorization` header as `curl -u` sends it."""
    return ("authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
