"""One call from its request to its answer, without the input and output in between: what both clients share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Callable, Generic, Optional, TypeVar, Union

import httpx

from keybrake.errors import ApiError, ApiUnavailable, Error, FieldError, MalformedAnswer, Unavailable
from keybrake.reading import member, object_of, objects_of
from keybrake.settings import Role, Settings

__all__ = ["Call", "Exchange"]

T = TypeVar("T")

# Seconds before the second and the third try of a call that may be repeated.
REPEAT_AFTER_S = (0.1, 0.4)
# What creates something is never repeated by itself: it may have been done.
REPEATABLE = frozenset({"GET", "DELETE"})
PASSING = frozenset({502, 503, 504})
PROBLEM = "urn:keybrake:problem:"


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


class Exchange(Generic[T]):
    """A call being made: send `request()`, hand what came to `take`, and so on until that returns None."""

    def __init__(self, settings: Settings, call: Call[T]) -> None:
        self._call = call
        self._where = f"{call.method} {call.path}"
        self._url = settings.url + call.path
        self._credential = settings.credential(call.role)
        self._failures = 0
        self._answer: Optional[T] = None

    def request(self, http: Union[httpx.Client, httpx.AsyncClient]) -> httpx.Request:
        """What to send."""
        call = self._call
        headers = {"Authorization": f"Bearer {self._credential}"}
        return http.build_request(call.method, self._url, params=call.params, json=call.body, headers=headers)

    def take(self, came: Union[httpx.Response, httpx.RequestError]) -> Optional[float]:
        """Takes the answer, or why there was none. None: `answer` has it; else the seconds until the next try. Raises
        `ApiError`, `Unavailable` and their kinds when it is given up."""
        status = None if isinstance(came, httpx.RequestError) else came.status_code
        try:
            if isinstance(came, httpx.RequestError):
                raise Unavailable(f"{self._where} at {self._url}: {type(came).__name__} {came}".rstrip()) from came
            self._answer = self._read(came.status_code, came.content)
            return None
        except Error:
            # Not after a time-out: whoever did not answer in time is not helped by more.
            passing = status in PASSING if status is not None else not isinstance(came, httpx.TimeoutException)
            if not passing or self._call.method not in REPEATABLE or self._failures == len(REPEAT_AFTER_S):
                raise
            self._failures += 1
            return REPEAT_AFTER_S[self._failures - 1]

    def answer(self) -> T:
        """What the call came to."""
        return self._answer  # type: ignore[return-value] # None is one of the answers

    def _read(self, status: int, content: bytes) -> T:
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            raise MalformedAnswer(f"{self._where}: {status}, and a body that is not JSON: not Keybrake") from None
        if status == self._call.expected:
            return self._call.read(found)
        raise self._problem(status, found)

    def _problem(self, status: int, found: Any) -> Error:
        shown = object_of(found, f"{self._where}: {status}, the body")
        kind = member(shown, "type", str)
        if kind == "about:blank" and status in PASSING:
            # A gateway's word that it does not reach the ledger.
            return Unavailable(f"{self._where}: {status} {member(shown, 'title', str)}")
        if status < 400 or not kind.startswith(PROBLEM):
            return MalformedAnswer(f"{self._where}: {status}, and no problem document of Keybrake's")
        fields = objects_of(shown, "errors") if "errors" in shown else []
        return (ApiUnavailable if status >= 500 else ApiError)(
            kind[len(PROBLEM) :],
            member(shown, "title", str),
            member(shown, "detail", str),
            status,
            [FieldError(member(field, "field", str), member(field, "message", str)) for field in fields],
        )
