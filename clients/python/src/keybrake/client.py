"""The client: carries the calls of `calls` out. `async_client` is its twin; what both do alike stands elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Optional, TypeVar, Union

import httpx

from keybrake import calls
from keybrake.balances import Statement
from keybrake.budgets import Budget
from keybrake.calls import Pages
from keybrake.entries import Entry
from keybrake.exchange import Call, Exchange
from keybrake.keys import KeyState, NewKey, VaultKey
from keybrake.preflight import Preflight
from keybrake.secrecy import NotPickled
from keybrake.settings import Settings
from keybrake.telling import BlockEnd

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from keybrake.budgets import BudgetCaps
    from keybrake.filters import AuditFilters, KeyFilters
    from keybrake.keys import Grant

__all__ = ["TIMEOUT_S", "Client"]

T = TypeVar("T")

TIMEOUT_S = 10.0


class Client(NotPickled):
    """Keybrake's admin and audit API. May be used by many threads at once.

    `url`, `admin_key` and `audit_key` come from `KEYBRAKE_URL`, `KEYBRAKE_ADMIN_KEY` and `KEYBRAKE_AUDIT_KEY` when
    they are not given; a key is only needed by the calls that use it. `http` is an HTTP client of your own (proxies,
    certificates), which stays yours to close; without it no proxy of the environment is used.

    Every call may raise `ApiError` (Keybrake says no), `Unavailable` (nobody could be asked) and `SettingMissing`.
    """

    def __init__(
        self,
        url: Optional[str] = None,
        *,
        admin_key: Optional[str] = None,
        audit_key: Optional[str] = None,
        timeout_s: float = TIMEOUT_S,
        http: Optional[httpx.Client] = None,
    ) -> None:
        self._settings = Settings.find(url, admin_key, audit_key)
        self._own = contextlib.ExitStack()
        self._http = http or self._own.enter_context(httpx.Client(timeout=timeout_s, trust_env=False))

    @property
    def url(self) -> str:
        """Keybrake's address: also that of the vendors, below `/stripe` and so on."""
        return self._settings.url

    def close(self) -> None:
        """Ends the connections."""
        self._own.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client(url={self.url!r})"

    # Keys

    def issue(self, *, label: str, allowed_endpoints: Sequence[str], **grant: Unpack[Grant]) -> VaultKey:
        """Issues a key. It lives for 24 hours unless `expires_in_seconds` or `expires_at` says otherwise. When the
        answer is lost the key may exist; nobody has its secret, and it expires."""
        return self._run(calls.issue({"label": label, "allowed_endpoints": allowed_endpoints, **grant}))

    def issue_many(self, keys: Sequence[NewKey]) -> list[VaultKey]:
        """Issues up to 1,000 keys in one call, all or none, in the order asked."""
        return self._run(calls.issue_many(keys))

    def revoke(self, key: Union[VaultKey, str]) -> None:
        """Revokes a key, or the key of this key id: effective on the very next request. Once more does no harm."""
        self._run(calls.revoke(key))

    def revoke_all(self, *, label_prefix: Optional[str] = None, budget: Optional[str] = None) -> int:
        """Revokes every key whose label begins so, or that draws from this budget; says how many there were."""
        return self._run(calls.revoke_all(label_prefix=label_prefix, budget=budget))

    def key(self, key: Union[VaultKey, str]) -> KeyState:
        """A key as it stands, with what is left of its caps."""
        return self._run(calls.key(key))

    def keys(self, **filters: Unpack[KeyFilters]) -> Iterator[KeyState]:
        """Keys that fit all filters, newest first, over all pages."""
        return self._all(calls.keys(filters))

    @contextlib.contextmanager
    def vault_key(self, *, label: str, allowed_endpoints: Sequence[str], **grant: Unpack[Grant]) -> Iterator[VaultKey]:
        """A key for the body of a `with`. It is revoked at the body's end, also when that raises.

        A revocation that fails is logged as an error of the logger `keybrake`, and noted on what the body raised. It
        raises nothing itself: the body's result stands, and the key expires.
        """
        with self._revoked_after([self.issue(label=label, allowed_endpoints=allowed_endpoints, **grant)]) as keys:
            yield keys[0]

    @contextlib.contextmanager
    def vault_keys(self, keys: Sequence[NewKey]) -> Iterator[list[VaultKey]]:
        """The same with many keys: issued all or none, each of them revoked at the end. When none was revoked for half
        a minute no other revocation begins; what is left then counts as one that fails."""
        with self._revoked_after(self.issue_many(keys)) as issued:
            yield issued

    @contextlib.contextmanager
    def _revoked_after(self, keys: list[VaultKey]) -> Iterator[list[VaultKey]]:
        end = BlockEnd(keys)
        try:
            yield keys
        except BaseException as error:
            end.raised = error
            raise
        finally:
            for key in end.in_time():
                try:
                    self.revoke(key)
                except Exception as failure:  # whatever it is, the body's own exception goes on
                    end.not_revoked(key, failure)

    # Budgets

    def create_budget(self, name: str, **caps: Unpack[BudgetCaps]) -> Budget:
        """Makes a budget; keys that are issued with `budget=name` draw from it as well."""
        return self._run(calls.create_budget({"name": name, **caps}))

    def budget(self, name: str) -> Budget:
        """A budget as it stands, with what is left of its caps."""
        return self._run(calls.budget(name))

    def budgets(self) -> Iterator[Budget]:
        """All budgets, over all pages."""
        return self._all(calls.budgets())

    def freeze_budget(self, name: str) -> Budget:
        """Admits nothing new under it until it is opened again."""
        return self._run(calls.change_budget(name, "frozen"))

    def reopen_budget(self, name: str) -> Budget:
        """Opens a budget that was frozen, or whose brake has tripped."""
        return self._run(calls.change_budget(name, "open"))

    # Statements and the audit

    def statement(self, key: Union[VaultKey, str], *, window: Optional[str] = None) -> Statement:
        """What became of a key's caps, window by window; `window="day:2026-07-01"` asks for an earlier one."""
        return self._run(calls.key_statement(key, window))

    def budget_statement(self, name: str, *, window: Optional[str] = None) -> Statement:
        """The same of a budget."""
        return self._run(calls.statement("budgets", name, window))

    def audit(self, **filters: Unpack[AuditFilters]) -> Iterator[Entry]:
        """Entries that fit all filters, newest first, over all pages, which are fetched as you go. With
        `idempotency_key` those that moved money come first."""
        return self._all(calls.audit(filters))

    def preflight(self, *, idempotency_key: str, vendor: str = "stripe") -> Optional[str]:
        """Was this done already? The id of the charge (where there is none, of the object that was made), or None:
        the vendor has executed nothing under this key.

        Fails closed: raises `Unknown` when it is under way or nobody knows, `Unavailable` when the audit cannot be
        asked or answers something else, `ApiError` when it refuses. None of these is ever None.
        """
        asked = Preflight(idempotency_key, vendor)
        for entry in self.audit(idempotency_key=idempotency_key, vendor=vendor):
            asked.take(entry)
        return asked.result()

    # Input and output

    def _all(self, pages: Pages[T]) -> Iterator[T]:
        while pages.next_call is not None:
            yield from pages.take(self._run(pages.next_call))

    def _run(self, call: Call[T]) -> T:
        exchange = Exchange(self._settings, call)
        while (wait_s := exchange.take(self._send(exchange))) is not None:
            time.sleep(wait_s)
        return exchange.answer()

    def _send(self, exchange: Exchange[T]) -> Union[httpx.Response, httpx.RequestError]:
        try:
            return self._http.send(exchange.request(self._http))
        except httpx.RequestError as error:
            return error
