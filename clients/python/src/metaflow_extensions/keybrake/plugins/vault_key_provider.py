"""`@secrets(sources=[{"type": "vault-key", "id": "VAULT_KEY", "options": {…}}])`: a vault key for each task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from metaflow.plugins.secrets import SecretsProvider


class VaultKeyProvider(SecretsProvider):
    """Issues a vault key whenever Metaflow asks for the secret, that is for each attempt at a task. `id` names the
    environment variable, `options` are the fields of the key. It is revoked when the task's Python ends; for a key
    that goes with the step, and a cap that depends on the branch, take `@spend_cap`."""

    TYPE = "vault-key"

    def get_secret_as_dict(
        self,
        secret_id: str,
        options: Optional[Mapping[str, Any]] = None,
        role: Optional[str] = None,  # noqa: ARG002 (Metaflow's signature; Keybrake's roles are its keys)
    ) -> dict[str, str]:
        """The issued key under the name of its environment variable."""
        from keybrake.task_keys import issue_until_exit  # noqa: PLC0415 (see mfextinit_keybrake.py)
        from metaflow import current  # noqa: PLC0415 (Metaflow is being loaded when this module is)

        label = "metaflow/secrets"
        if current.is_running_flow:
            # Not below the task's own prefix: `@spend_cap` on the same step revokes what it finds there.
            label = f"metaflow/{current.pathspec}-secrets/{current.retry_count}"
        return {secret_id: issue_until_exit({"label": label, **(options or {})})}
