"""The run folder: generated keys, secret files, pids, logs. Everything in it is for its owner's eyes only."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Optional

from stack.errors import StackError

# Longest path that a Unix socket takes everywhere.
MAX_SOCKET_PATH = 100

SECRET_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"


class RunFolder:
    """Names and makes what stands in the run folder."""

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.abspath(path))
        self._lock: Optional[IO[str]] = None

    def make(self) -> None:
        """Makes the folder (0700) and its sub-folders. Raises `StackError` when that cannot be."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self.path.stat().st_uid != os.geteuid():
                raise StackError(
                    f"run folder {self.path} belongs to somebody else: set KEYBRAKE_RUN_DIR to a folder of your own"
                )
            self.path.chmod(0o700)
            for name in ("pids", "logs", "sds", "keys", "certs"):
                (self.path / name).mkdir(mode=0o700, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise StackError(
                f"run folder {self.path} cannot be written ({error.strerror}): set KEYBRAKE_RUN_DIR to another folder"
            ) from error

    def lock(self) -> None:
        """Keeps a second launcher out until `unlock` or the end of this one. Raises `StackError`."""
        held = open(self.path / "lock", "w")  # noqa: SIM115
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            held.close()
            raise StackError(f"another launcher is at work in {self.path}") from None
        self._lock = held

    def unlock(self) -> None:
        """Lets others in."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def pid_file(self, name: str) -> Path:
        """Where the pid of this program stands while it runs."""
        return self.path / "pids" / f"{name}.json"

    def log_file(self, name: str) -> Path:
        """Where this program writes."""
        return self.path / "logs" / f"{name}.log"

    @property
    def database(self) -> Path:
        """The ledger's database, unless another is asked for."""
        return self.path / "keybrake.db"

    @property
    def sds(self) -> Path:
        """The folder that Envoy watches for secrets."""
        return self.path / "sds"

    def key_file(self, name: str) -> Path:
        """Where a generated key stands."""
        return self.path / "keys" / name

    def key(self, name: str, prefix: str) -> str:
        """The generated key of this name, its file's first line. Made at the first start, kept like the database."""
        path = self.key_file(name)
        if path.exists():
            kept = path.read_text().strip().partition("\n")[0].strip()
            if kept.startswith(prefix) and len(kept) > len(prefix):
                return kept
        made = prefix + secrets.token_hex(24)
        write_private(path, made + "\n")
        return made

    def write_secret(self, name: str, value: str) -> None:
        """Writes the secret `name` for Envoy, whole or not at all; a running Envoy takes it up at once."""
        self._write_sds(name, {"generic_secret": {"secret": {"inline_string": value}}})

    def write_trusted(self, name: str, ca: Path) -> None:
        """Writes which certificates Envoy trusts; it takes up a `ca` that is replaced later as well."""
        watched = {"trusted_ca": {"filename": str(ca)}, "watched_directory": {"path": str(ca.parent)}}
        self._write_sds(name, {"validation_context": watched})

    def _write_sds(self, name: str, secret: dict[str, object]) -> None:
        resource = {"@type": SECRET_TYPE, "name": name, **secret}
        write_private(self.sds / f"{name}.json", json.dumps({"resources": [resource]}))

    def socket(self, asked: Optional[str] = None) -> Path:
        """The path of the ledger's command socket: as asked or in the run folder, else a short one in a private
        folder under the temporary one."""
        path = Path(os.path.abspath(asked)) if asked else self.path / "ledger.sock"
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
            return path
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"keybrake-{os.geteuid()}-{name}"
        if len(os.fsencode(folder)) > MAX_SOCKET_PATH - len("/ledger.sock"):
            folder = Path("/tmp") / folder.name
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()
        if about.st_uid != os.geteuid() or about.st_mode & 0o077 or not folder.is_dir() or folder.is_symlink():
            raise StackError(
                f"folder {folder} is not private: remove it, or set KEYBRAKE_LEDGER_SOCKET to a short path"
            )
        return folder / "ledger.sock"

    def write_env(self, values: Mapping[str, Optional[str]], programs: Path) -> Path:
        """Writes `env`, the file that a shell sources to talk to the stack: these variables, those that are None unset,
        and the folder of `programs` in front of PATH."""
        lines = [
            f"unset {name}" if value is None else f"export {name}={shlex.quote(value)}"
            for name, value in sorted(values.items())
        ]
        lines.append(f'export PATH={shlex.quote(str(programs))}:"$PATH"')
        path = self.path / "env"
        write_private(path, "".join(f"{line}\n" for line in lines))
        return path


def write_private(path: Path, text: str) -> None:
    """Replaces the file's text at one stroke; the file is 0600 from its first byte."""
    handle, made = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(made, path)
    except BaseException:
        # An interruption may come when it has its name already.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(made)
        raise
