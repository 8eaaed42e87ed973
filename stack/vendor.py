"""Which vendor stands behind the gate: the sandbox, or Stripe."""

from __future__ import annotations

import ssl
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from stack.errors import StackError
from stack.ledger_mark import SANDBOX, STRIPE_LIVE, STRIPE_TEST
from stack.ports import LOOPBACK

STRIPE_HOST = "api.stripe.com"
TEST_KEY_PREFIXES = ("sk_test_", "rk_test_")
LIVE_KEY_PREFIXES = ("sk_live_", "rk_live_")

# Where systems keep the certificates they trust, when Python does not know.
CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


@dataclass(frozen=True)
class Vendor:
    """The vendor's address and the secret that Envoy puts in. `Vendor.sandbox()` has neither until it runs."""

    name: str
    host: str = STRIPE_HOST
    address: str = LOOPBACK
    port: int = 0
    tls: bool = True
    ca: Optional[Path] = None
    secret: Optional[str] = field(default=None, repr=False)

    @classmethod
    def sandbox(cls) -> Vendor:
        """The sandbox that the stack starts itself."""
        return cls("sandbox")

    @classmethod
    def stripe(cls, secret: str, upstream: str = f"https://{STRIPE_HOST}") -> Vendor:
        """Stripe, or a loopback stand-in for it. Raises `StackError`."""
        if not secret or any(not "!" <= character <= "~" for character in secret):
            raise StackError("KEYBRAKE_VENDOR=stripe needs STRIPE_SECRET_KEY: one word of printable characters")
        if not secret.startswith(TEST_KEY_PREFIXES + LIVE_KEY_PREFIXES):
            known = "sk_test_, rk_test_, sk_live_ or rk_live_"
            raise StackError(f"STRIPE_SECRET_KEY is no secret key of Stripe's: those begin with {known}")
        try:
            url = urllib.parse.urlsplit(upstream)
            host, port = url.hostname or "", url.port
        except ValueError:
            url, host, port = urllib.parse.urlsplit(""), "", None
        if not host or url.username is not None or url.path.strip("/") or url.query or url.fragment:
            raise StackError("STRIPE_UPSTREAM must be https://HOST[:PORT] or http://127.0.0.1:PORT")
        if url.scheme == "https":
            return cls("stripe", host, host, port or 443, True, _system_ca(), secret)
        if url.scheme == "http" and host == LOOPBACK and port:
            return cls("stripe", host, host, port, False, None, secret)
        raise StackError("STRIPE_UPSTREAM must be https (plain http only to 127.0.0.1)")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Vendor:
        """The sandbox unless KEYBRAKE_VENDOR=stripe; without it STRIPE_* in the shell count for nothing."""
        name = environment.get("KEYBRAKE_VENDOR") or "sandbox"
        if name == "sandbox":
            return cls.sandbox()
        if name == "stripe":
            upstream = environment.get("STRIPE_UPSTREAM") or f"https://{STRIPE_HOST}"
            return cls.stripe(environment.get("STRIPE_SECRET_KEY", ""), upstream)
        raise StackError(f"KEYBRAKE_VENDOR must be sandbox or stripe, not {name!r}")

    @property
    def is_sandbox(self) -> bool:
        """Whether the stack starts the vendor itself."""
        return self.name == "sandbox"

    @property
    def allows_demo(self) -> bool:
        """Whether a demo charge moves no real money."""
        return self.is_sandbox or (self.secret or "").startswith(TEST_KEY_PREFIXES)

    @property
    def serves(self) -> str:
        """What a ledger behind it has on record: charges of the sandbox, of test keys or of live keys."""
        if self.is_sandbox:
            return SANDBOX
        return STRIPE_TEST if self.allows_demo else STRIPE_LIVE

    @property
    def authority(self) -> str:
        """The Host that the vendor sees."""
        return STRIPE_HOST if not self.tls or self.is_sandbox else self.host


def _system_ca() -> Path:
    known = ssl.get_default_verify_paths().cafile
    for candidate in (known, *CA_BUNDLES):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    raise StackError("no certificate bundle found: set SSL_CERT_FILE to the file with the certificates you trust")
