"""The calls of Keybrake's API as values: what is sent, and how the answer is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Generic, Literal, Optional, TypeVar, Union
from urllib.parse import quote

from keybrake.balances import Statement, read_statement
from keybrake.budgets import Budget, budget_body, read_budget
from keybrake.entries import Entry, read_entry
from keybrake.errors import MalformedAnswer
from keybrake.exchange import Call
from keybrake.keys import KeyState, VaultKey, new_key_body, read_key, read_key_state
from keybrake.reading import member, object_of, objects_of, optional_member
from keybrake.settings import Role

__all__ = [
    "Page",
    "Pages",
    "audit",
    "budget",
    "budgets",
    "change_budget",
    "create_budget",
    "issue",
    "issue_many",
    "key",
    "key_statement",
    "keys",
    "revoke",
    "revoke_all",
    "statement",
]

T = TypeVar("T")

PAGE = 500

Subject = Literal["vault_keys", "budgets"]


@dataclasses.dataclass(frozen=True)
class Page(Generic[T]):
    """A page of a list."""

    items: Sequence[T]
    next_cursor: Optional[str]


class Pages(Generic[T]):
    """Walks a list page by page: which call is next, until there is none."""

    def __init__(self, ask: Callable[[Optional[str]], Call[Page[T]]]) -> None:
        self._ask = ask
        self._seen: set[str] = set()
        self.next_call: Optional[Call[Page[T]]] = ask(None)

    def take(self, page: Page[T]) -> Sequence[T]:
        """The page's elements; `next_call` is then that of the page after. A walk in circles is malformed."""
        cursor = page.next_cursor
        if cursor in self._seen:
            raise MalformedAnswer("Keybrake's pages do not come to an end")
        if cursor is not None:
            self._seen.add(cursor)
        self.next_call = None if cursor is None else self._ask(cursor)
        return page.items


# Keys


def issue(asked: Mapping[str, Any]) -> Call[VaultKey]:
    """One key."""
    return Call(Role.ADMIN, "POST", "/admin/vault_keys", read_key, body=new_key_body(asked), expected=201)


def issue_many(asked: Sequence[Mapping[str, Any]]) -> Call[list[VaultKey]]:
    """Up to 1,000 keys, all or none."""

    def read(answer: Any) -> list[VaultKey]:
        issued = [read_key(found) for found in objects_of(object_of(answer, "the answer"), "keys")]
        if len(issued) != len(asked):
            raise MalformedAnswer(f"{len(asked)} keys were asked for, {len(issued)} came")
        return issued

    body = {"keys": [new_key_body(one) for one in asked]}
    return Call(Role.ADMIN, "POST", "/admin/vault_keys", read, body=body, expected=201)


def key(named: Union[VaultKey, str]) -> Call[KeyState]:
    """One key as it stands."""
    return Call(Role.ADMIN, "GET", _subject("vault_keys", _key_id(named)), read_key_state)


def keys(filters: Mapping[str, object]) -> Pages[KeyState]:
    """Keys that fit, newest first."""
    return _pages(Role.ADMIN, "/admin/vault_keys", "keys", read_key_state, filters)


def revoke(named: Union[VaultKey, str]) -> Call[None]:
    """One key, by itself or by its key id. Once more does nothing more."""
    key_id = _key_id(named)

    def read(answer: Any) -> None:
        if read_key_state(answer).status != "revoked":
            raise MalformedAnswer(f"{key_id} was to be revoked and is not")

    return Call(Role.ADMIN, "DELETE", _subject("vault_keys", key_id), read)


def revoke_all(*, label_prefix: Optional[str], budget: Optional[str]) -> Call[int]:
    """Every key whose label begins so, or that draws from this budget or one below it. How many there were."""
    named = {"label_prefix": label_prefix, "budget": budget}
    body = {name: value for name, value in named.items() if value is not None}

    def read(answer: Any) -> int:
        return member(object_of(answer, "the answer"), "revoked", int)

    return Call(Role.ADMIN, "POST", "/admin/vault_keys/revoke", read, body=body)


def _key_id(named: Union[VaultKey, str]) -> str:
    key_id = named if isinstance(named, str) else named.key_id
    if not key_id.startswith("vk_"):
        raise ValueError("not a key id: it begins with vk_")
    return key_id


# Budgets


def create_budget(asked: Mapping[str, Any]) -> Call[Budget]:
    """A new one."""
    return Call(Role.ADMIN, "POST", "/admin/budgets", read_budget, body=budget_body(asked), expected=201)


def budget(name: str) -> Call[Budget]:
    """One budget as it stands."""
    return Call(Role.ADMIN, "GET", _subject("budgets", name), read_budget)


def budgets() -> Pages[Budget]:
    """All of them."""
    return _pages(Role.ADMIN, "/admin/budgets", "budgets", read_budget, {})


def change_budget(name: str, state: Literal["open", "frozen"]) -> Call[Budget]:
    """Opens or freezes it."""
    return Call(Role.ADMIN, "PATCH", _subject("budgets", name), read_budget, body={"state": state})


# Statements and the audit


def statement(subject: Subject, name: str, window: Optional[str]) -> Call[Statement]:
    """Of a key or a budget; of the present windows, or of an earlier one."""
    params = {} if window is None else {"window": window}
    return Call(Role.ADMIN, "GET", f"{_subject(subject, name)}/statement", read_statement, params=params)


def key_statement(named: Union[VaultKey, str], window: Optional[str]) -> Call[Statement]:
    """Of a key."""
    return statement("vault_keys", _key_id(named), window)


def audit(filters: Mapping[str, object]) -> Pages[Entry]:
    """Entries that fit, newest first; with an idempotency key those that moved money come first."""
    return _pages(Role.AUDIT, "/audit", "entries", read_entry, filters)


def _subject(subject: Subject, name: str) -> str:
    if not name:
        raise ValueError("the name is empty")
    return f"/admin/{subject}/{quote(name, safe='')}"


def _pages(
    role: Role, path: str, name: str, read: Callable[[Mapping[str, Any]], T], filters: Mapping[str, object]
) -> Pages[T]:
    """Raises `ValueError` for a filter that is no text or empty: it would ask for everything."""
    asked = {"limit": str(PAGE)}
    for field, value in filters.items():
        if not isinstance(value, str) or not value:
            raise ValueError(f"{field} has to be text that is not empty, not {value!r}")
        asked[field] = value

    def read_page(answer: Any) -> Page[T]:
        found = object_of(answer, "the page")
        return Page([read(one) for one in objects_of(found, name)], optional_member(found, "next_cursor", str))

    def ask(cursor: Optional[str]) -> Call[Page[T]]:
        return Call(role, "GET", path, read_page, params=asked if cursor is None else {**asked, "cursor": cursor})

    return Pages(ask)
