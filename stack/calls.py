"""Plain HTTP calls to the stack's own loopback ports. Never through a proxy of the environment."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union

# No proxies and no redirects: what answers is what was called.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Answer:
    """An HTTP answer. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON, or None when it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class NoAnswer(Exception):
    """Nobody answered, or not in time."""


def call(
    method: str,
    url: str,
    *,
    bearer: Optional[str] = None,
    headers: Optional[Mapping[str, str]] = None,
    form: Union[Mapping[str, object], None] = None,
    json_body: Optional[object] = None,
    timeout_s: float = 10,
) -> Answer:
    """One request, one answer, whatever its status. Raises `NoAnswer`."""
    sent = dict(headers or {})
    body = None
    if form is not None:
        body = urllib.parse.urlencode(form).encode()
        sent.setdefault("Content-Type", "application/x-www-form-urlencoded")
    if json_body is not None:
        body = json.dumps(json_body).encode()
        sent.setdefault("Content-Type", "application/json")
    if bearer is not None:
        sent["Authorization"] = f"Bearer {bearer}"
    request = urllib.request.Request(url, data=body, headers=sent, method=method)
    try:
        with _OPENER.open(request, timeout=timeout_s) as answer:
            return _answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return _answer(error.code, error.headers, error.read())
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(f"{method} {url}: {error}") from error


def _answer(status: int, headers: Any, body: bytes) -> Answer:
    return Answer(status, {name.lower(): value for name, value in headers.items()}, body)
