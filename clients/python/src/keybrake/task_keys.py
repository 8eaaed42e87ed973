"""Keys that live as long as one task: for schedulers that run each task in a process of its own."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, Optional

from keybrake.client import Client
from keybrake.settings import Role
from keybrake.telling import LOG

__all__ = ["environment", "issue_until_exit", "revoke_earlier", "task_key"]


@contextlib.contextmanager
def task_key(task: str, attempt: str, variable: str, grant: Mapping[str, Any]) -> Iterator[None]:
    """A key in the environment variable for the body, revoked at its end; the admin's key is not in the environment
    meanwhile. Keys of earlier attempts at the same `task` are revoked first: one that was killed could not do it."""
    with Client() as client:
        _revoke_earlier(client, task)
        with (
            client.vault_key(**{**grant, "label": f"{task}/{attempt}"}) as key,
            environment({variable: key.secret, Role.ADMIN.value: None}),
        ):
            yield


def revoke_earlier(task: str) -> None:
    """Revokes what earlier attempts at the task left behind. A failure is logged: this comes before code that is to run
    whatever happens."""
    try:
        with Client() as client:
            _revoke_earlier(client, task)
    except Exception as failure:
        LOG.error("vault keys of %s are perhaps not revoked, and live until they expire: %s", task, failure)


def _revoke_earlier(client: Client, task: str) -> None:
    client.revoke_all(label_prefix=f"{task}/")


def issue_until_exit(grant: Mapping[str, Any]) -> str:
    """The secret of a new key that is revoked when this process ends by itself."""
    held = contextlib.ExitStack()
    client = held.enter_context(Client())
    key = held.enter_context(client.vault_key(**grant))
    atexit.register(held.close)
    return key.secret


@contextlib.contextmanager
def environment(changes: Mapping[str, Optional[str]]) -> Iterator[None]:
    """Sets variables for the body (None: removes them), and puts them back as they were."""
    before = {name: os.environ.get(name) for name in changes}
    _set(changes)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, Optional[str]]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
