"""Where Keybrake is and what this process may do there: from arguments, else from the environment."""

from __future__ import annotations

import dataclasses
import enum
import os
from typing import Optional
from urllib.parse import urlsplit

from keybrake.errors import SettingMissing

__all__ = ["Role", "Settings", "find_url"]

URL_VARIABLE = "KEYBRAKE_URL"


class Role(enum.Enum):
    """Which of the two credentials a call needs. The value is the environment variable that holds it."""

    ADMIN = "KEYBRAKE_ADMIN_KEY"
    AUDIT = "KEYBRAKE_AUDIT_KEY"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Keybrake's address and the credentials at hand. A missing one is an error only when it is needed."""

    url: str
    admin_key: Optional[str] = dataclasses.field(repr=False)
    audit_key: Optional[str] = dataclasses.field(repr=False)

    @classmethod
    def find(cls, url: Optional[str], admin_key: Optional[str], audit_key: Optional[str]) -> Settings:
        """Arguments first, then the environment. Raises `SettingMissing` without a URL, `ValueError` for a bad one."""
        return cls(
            url=find_url(url),
            admin_key=_key(Role.ADMIN, admin_key),
            audit_key=_key(Role.AUDIT, audit_key),
        )

    def credential(self, role: Role) -> str:
        """The credential of this role. Raises `SettingMissing`."""
        found = self.admin_key if role is Role.ADMIN else self.audit_key
        if found is None:
            raise SettingMissing(f"{role.value} is not set, and {role.name.lower()}_key was not given")
        return found


def _key(role: Role, given: Optional[str]) -> Optional[str]:
    """The credential without what a file puts around it. One that no header can carry is refused here, where it is not
    shown."""
    found = (given or os.environ.get(role.value) or "").strip()
    if not (found.isascii() and found.isprintable()) or " " in found:
        raise ValueError(f"{role.value} has characters that a key has not")
    return found or None


def find_url(url: Optional[str]) -> str:
    """The given URL or that of `KEYBRAKE_URL`, without a slash at its end."""
    found = url or os.environ.get(URL_VARIABLE)
    if not found:
        raise SettingMissing(f"{URL_VARIABLE} is not set, and url was not given")
    parts = urlsplit(found)
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise ValueError("not the URL of a Keybrake; it looks like http://127.0.0.1:10000")
    return found.rstrip("/")
