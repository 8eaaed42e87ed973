"""The one error that the launcher reports."""

from __future__ import annotations


class StackError(Exception):
    """Why the stack cannot start or go on: one clear line, and the last lines of a log where there is one.

    Never holds a key or a secret.
    """

    exit_code = 1

    def __init__(self, line: str, log_tail: str = "") -> None:
        super().__init__(line)
        self.line = line
        self.log_tail = log_tail

    def __str__(self) -> str:
        if not self.log_tail:
            return self.line
        return self.line + "\n" + "\n".join("  | " + line for line in self.log_tail.splitlines())


class WrongUse(StackError):
    """What was asked for must not be done; nothing was begun."""

    exit_code = 2
