"""The calls of Keybrake's API as values: what is sent, and how the answer is read. Nothing here does input or output;
`Client` and `AsyncClient` carry the calls out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Generic, Optional, TypeVar, Union
from urllib.parse import quote

from keybrake.entries import Entry, read_entry
from keybrake.errors import ApiError, ApiUnavailable, FieldError, MalformedAnswer
from keybrake.keys import VaultKey, new_key_body, read_key
from keybrake.reading import member, object_of, objects_of, optional_member
from keybrake.settings import Role

__all__ = [
    "Call",
    "Page",
    "Pages",
    "answer_of",
    "audit",
    "issue",
    "issue_many",
    "revoke",
    "revoke_all",
    "wait_before_repeat",
]

T = TypeVar("T")

# Seconds before a second and a third try of a call that may be repeated.
REPEAT_AFTER_S = (0.1, 0.4)
PAGE = 500


@dataclasses.dataclass(frozen=True)
class Call(Generic[T]):
    """One request, and what its answer means."""

    role: Role
    method: str
    path: str
    read: Callable[[Any], T]
    """From the answer's JSON. Raises `MalformedAnswer`."""
    params: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: Optional[Mapping[str, Any]] = None
    expected: int = 200


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


def wait_before_repeat(call: Call[Any], failures: int, status: Optional[int]) -> Optional[float]:
    """Seconds until a call that failed so often is tried again; None: it is not. `status` is that of the answer, None
    without one. What creates something is never repeated by itself: it may have been done."""
    repeatable = call.method in ("GET", "DELETE") and status in (None, 502, 503, 504)
    return REPEAT_AFTER_S[failures - 1] if repeatable and failures <= len(REPEAT_AFTER_S) else None


def answer_of(call: Call[T], status: int, content: bytes) -> T:
    """What an answer says. Raises `ApiError`, `ApiUnavailable` or `MalformedAnswer`."""
    where = f"{call.method} {call.path}"
    try:
        found = json.loads(content)
    except ValueError:
        raise MalformedAnswer(f"{where}: {status} with a body that is not JSON; that is not Keybrake") from None
    if status == call.expected:
        return call.read(found)
    raise _problem(where, status, found)


def _problem(where: str, status: int, found: Any) -> Exception:
    shown = object_of(found, f"{where}: the body of {status}")
    kind = member(shown, "type", str)
    if status < 400 or not kind.startswith("urn:keybrake:problem:"):
        return MalformedAnswer(f"{where}: {status} with a body that is not one of Keybrake's problem documents")
    fields = objects_of(shown, "errors") if "errors" in shown else []
    raised = ApiUnavailable if status >= 500 else ApiError
    return raised(
        code=kind.rpartition(":")[2],
        title=member(shown, "title", str),
        detail=member(shown, "detail", str),
        status=status,
        errors=[FieldError(member(field, "field", str), member(field, "message", str)) for field in fields],
    )


# Keys


def issue(asked: Mapping[str, Any]) -> Call[VaultKey]:
    """One key."""
    return Call(Role.ADMIN, "POST", "/admin/vault_keys", read_key, body=new_key_body(asked), expected=201)


def issue_many(asked: Sequence[Mapping[str, Any]]) -> Call[list[VaultKey]]:
    """Up to 1,000 keys, all or none."""

    def read(answer: Any) -> list[VaultKey]:
        keys = [read_key(found) for found in objects_of(object_of(answer, "the answer"), "keys")]
        if len(keys) != len(asked):
            raise MalformedAnswer(f"{len(asked)} keys were asked for, {len(keys)} came")
        return keys

    body = {"keys": [new_key_body(one) for one in asked]}
    return Call(Role.ADMIN, "POST", "/admin/vault_keys", read, body=body, expected=201)


def revoke(key: Union[VaultKey, str]) -> Call[None]:
    """One key, by itself or by its key id. Once more does nothing more."""
    key_id = key if isinstance(key, str) else key.key_id
    if not key_id.startswith("vk_"):
        raise ValueError("not a key id: it begins with vk_")

    def read(answer: Any) -> None:
        if member(object_of(answer, "the revoked key"), "status", str) != "revoked":
            raise MalformedAnswer(f"{key_id} was to be revoked and is not")

    return Call(Role.ADMIN, "DELETE", f"/admin/vault_keys/{quote(key_id, safe='')}", read)


def revoke_all(*, label_prefix: Optional[str], budget: Optional[str]) -> Call[int]:
    """Every key whose label begins so, or that draws from this budget or one below it. How many there were."""
    named = {"label_prefix": label_prefix, "budget": budget}
    body = {name: value for name, value in named.items() if value is not None}

    def read(answer: Any) -> int:
        return member(object_of(answer, "the answer"), "revoked", int)

    return Call(Role.ADMIN, "POST", "/admin/vault_keys/revoke", read, body=body)


# The audit


def audit(filters: Mapping[str, object]) -> Pages[Entry]:
    """Entries that fit, newest first; with an idempotency key those that moved money come first. Raises `ValueError`
    for a filter that is no text or empty: it would ask for everything."""
    asked = {}
    for name, value in filters.items():
        if not isinstance(value, str) or not value:
            raise ValueError(f"{name} has to be text that is not empty, not {value!r}")
        asked[name] = value
    return Pages(lambda cursor: _page(Role.AUDIT, "/audit", "entries", read_entry, asked, cursor))


def _page(
    role: Role,
    path: str,
    name: str,
    read: Callable[[Mapping[str, Any]], T],
    asked: Mapping[str, str],
    cursor: Optional[str],
) -> Call[Page[T]]:
    def read_page(answer: Any) -> Page[T]:
        found = object_of(answer, "the page")
        return Page([read(one) for one in objects_of(found, name)], optional_member(found, "next_cursor", str))

    params = {"limit": str(PAGE), **asked, **({} if cursor is None else {"cursor": cursor})}
    return Call(role, "GET", path, read_page, params=params)
