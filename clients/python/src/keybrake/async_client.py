"""The twin of `client` for asyncio and trio."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Optional, TypeVar, Union

import anyio
import httpx

from keybrake import calls
from keybrake.balances import Statement
from keybrake.budgets import Budget
from keybrake.calls import Pages
from keybrake.client import TIMEOUT_S
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

__all__ = ["AsyncClient"]

T = TypeVar("T")


class AsyncClient(NotPickled):
    """`Client` with `await`; see there what each method does, and what it may raise."""

    def __init__(
        self,
        url: Optional[str] = None,
        *,
        admin_key: Optional[str] = None,
        audit_key: Optional[str] = None,
        timeout_s: float = TIMEOUT_S,
        http: Optional[httpx.AsyncClient] = None,
    ) -> None:
        self._settings = Settings.find(url, admin_key, audit_key)
        self._own = http is None
        self._http = http or httpx.AsyncClient(timeout=timeout_s, trust_env=False)

    @property
    def url(self) -> str:
        """Keybrake's address: also that of the vendors, below `/stripe` and so on."""
        return self._settings.url

    async def close(self) -> None:
        """Ends the connections."""
        if self._own:
            await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient(url={self.url!r})"

    # Keys

    async def issue(self, *, label: str, allowed_endpoints: Sequence[str], **grant: Unpack[Grant]) -> VaultKey:
        """Issues a key. It lives for 24 hours unless `expires_in_seconds` or `expires_at` says otherwise. When the
        answer is lost the key may exist; nobody has its secret, and it expires."""
        return await self._run(calls.issue({"label": label, "allowed_endpoints": allowed_endpoints, **grant}))

    async def issue_many(self, keys: Sequence[NewKey]) -> list[VaultKey]:
        """Issues up to 1,000 keys in one call, all or none, in the order asked."""
        return await self._run(calls.issue_many(keys))

    async def revoke(self, key: Union[VaultKey, str]) -> None:
        """Revokes a key, or the key of this key id: effective on the very next request. Once more does no harm."""
        await self._run(calls.revoke(key))

    async def revoke_all(self, *, label_prefix: Optional[str] = None, budget: Optional[str] = None) -> int:
        """Revokes every key whose label begins so, or that draws from this budget; says how many there were."""
        return await self._run(calls.revoke_all(label_prefix=label_prefix, budget=budget))

    async def key(self, key: Union[VaultKey, str]) -> KeyState:
        """A key as it stands, with what is left of its caps."""
        return await self._run(calls.key(key))

    def keys(self, **filters: Unpack[KeyFilters]) -> AsyncIterator[KeyState]:
        """Keys that fit all filters, newest first, over all pages."""
        return self._all(calls.keys(filters))

    @contextlib.asynccontextmanager
    async def vault_key(
        self, *, label: str, allowed_endpoints: Sequence[str], **grant: Unpack[Grant]
    ) -> AsyncIterator[VaultKey]:
        """A key for the body of an `async with`, revoked at its end, also when the body is cancelled."""
        issued = await self.issue(label=label, allowed_endpoints=allowed_endpoints, **grant)
        async with self._revoked_after([issued]) as keys:
            yield keys[0]

    @contextlib.asynccontextmanager
    async def vault_keys(self, keys: Sequence[NewKey]) -> AsyncIterator[list[VaultKey]]:
        """The same with many keys: issued all or none, each of them revoked at the end. When none was revoked for half
        a minute no other revocation begins; what is left then counts as one that fails."""
        async with self._revoked_after(await self.issue_many(keys)) as issued:
            yield issued

    @contextlib.asynccontextmanager
    async def _revoked_after(self, keys: list[VaultKey]) -> AsyncIterator[list[VaultKey]]:
        end = BlockEnd(keys)
        try:
            yield keys
        except BaseException as error:
            end.raised = error
            raise
        finally:
            # A cancelled body must not keep its keys alive.
            with anyio.CancelScope(shield=True):
                for key in end.in_time():
                    try:
                        await self.revoke(key)
                    except Exception as failure:  # whatever it is, the body's own exception goes on
                        end.not_revoked(key, failure)

    # Budgets

    async def create_budget(self, name: str, **caps: Unpack[BudgetCaps]) -> Budget:
        """Makes a budget; keys that are issued with `budget=name` draw from it as well."""
        return await self._run(calls.create_budget({"name": name, **caps}))

    async def budget(self, name: str) -> Budget:
        """A budget as it stands, with what is left of its caps."""
        return await self._run(calls.budget(name))

    def budgets(self) -> AsyncIterator[Budget]:
        """All budgets, over all pages."""
        return self._all(calls.budgets())

    async def freeze_budget(self, name: str) -> Budget:
        """Admits nothing new under it until it is opened again."""
        return await self._run(calls.change_budget(name, "frozen"))

    async def reopen_budget(self, name: str) -> Budget:
        """Opens a budget that was frozen, or whose brake has tripped."""
        return await self._run(calls.change_budget(name, "open"))

    # Statements and the audit

    async def statement(self, key: Union[VaultKey, str], *, window: Optional[str] = None) -> Statement:
        """What became of a key's caps, window by window; `window="day:2026-07-01"` asks for an earlier one."""
        return await self._run(calls.key_statement(key, window))

    async def budget_statement(self, name: str, *, window: Optional[str] = None) -> Statement:
        """The same of a budget."""
        return await self._run(calls.statement("budgets", name, window))

    def audit(self, **filters: Unpack[AuditFilters]) -> AsyncIterator[Entry]:
        """Entries that fit all filters, newest first, over all pages, which are fetched as you go. With
        `idempotency_key` those that moved money come first."""
        return self._all(calls.audit(filters))

    async def preflight(self, *, idempotency_key: str, vendor: str = "stripe") -> Optional[str]:
        """Was this done already? Fails closed, as `Client.preflight` does."""
        asked = Preflight(idempotency_key, vendor)
        async for entry in self.audit(idempotency_key=idempotency_key, vendor=vendor):
            asked.take(entry)
        return asked.result()

    # Input and output

    async def _all(self, pages: Pages[T]) -> AsyncIterator[T]:
        while pages.next_call is not None:
            for item in pages.take(await self._run(pages.next_call)):
                yield item

    async def _run(self, call: Call[T]) -> T:
        exchange = Exchange(self._settings, call)
        while (wait_s := exchange.take(await self._send(exchange))) is not None:
            await anyio.sleep(wait_s)
        return exchange.answer()

    async def _send(self, exchange: Exchange[T]) -> Union[httpx.Response, httpx.RequestError]:
        try:
            return await self._http.send(exchange.request(self._http))
        except httpx.RequestError as error:
            return error
