"""Reading members of Keybrake's answers. What is not as documented is a `MalformedAnswer`, never a default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional, TypeVar

from keybrake.errors import MalformedAnswer

__all__ = ["member", "object_of", "objects_of", "optional_member"]

T = TypeVar("T")


def object_of(value: Any, what: str) -> Mapping[str, Any]:
    """The value as a JSON object."""
    if not isinstance(value, dict):
        raise MalformedAnswer(f"{what} is not a JSON object")
    return value


def objects_of(parent: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The member as a list of objects."""
    found = member(parent, name, list)
    return [object_of(value, f"an element of {name!r}") for value in found]


def member(parent: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """The member, of this type. A boolean is no number."""
    found = parent.get(name)
    if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
        raise MalformedAnswer(f"{name!r} is missing in Keybrake's answer, or is no {kind.__name__}")
    return found


def optional_member(parent: Mapping[str, Any], name: str, kind: type[T]) -> Optional[T]:
    """The same, or None for null. The member has to be there."""
    if name not in parent:
        raise MalformedAnswer(f"{name!r} is missing in Keybrake's answer")
    return None if parent[name] is None else member(parent, name, kind)
