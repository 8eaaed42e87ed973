"""`@spend_cap`: a vault key of its own for each attempt at a task, revoked when the attempt ends."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Callable, Optional

from metaflow.decorators import StepDecorator
from metaflow.exception import MetaflowException

CAPS = (
    "daily_usd_cap",
    "monthly_usd_cap",
    "lifetime_usd_cap",
    "per_request_usd_cap",
    "rolling_usd_cap",
    "uncapped",
    "budget",
)
GRANT = (
    "allowed_endpoints",
    "vendor",
    *CAPS,
    "rolling_hours",
    "max_requests",
    "expires_in_seconds",
    "workspace",
    "constraints",
    "vendor_accounts",
    "idempotency",
    "derive_from",
    "derive_scope",
    "duplicate_window_seconds",
    "duplicate_fields",
    "worst_case_usd",
    "metadata",
)


class SpendCapDecorator(StepDecorator):
    """Issues a vault key before the step and revokes it after it, also when the step fails.

    The key stands in the environment of the step's own task (`variable`, by default `VAULT_KEY`) and nowhere else:
    never in an artifact. `KEYBRAKE_ADMIN_KEY`, which the task needs for issuing, is not in the environment while the
    step runs. A retry gets a new key; what an attempt left behind that was killed is revoked first.

    Every other attribute is a field of the issued key (`allowed_endpoints`, `daily_usd_cap`, `constraints`, …) and may
    be a function of the flow, called when the task starts: `lifetime_usd_cap=lambda flow: usd(flow.input["cents"])`.
    `allowed_endpoints` and one cap (or `budget`, or `uncapped=True`) are needed. A key lives for two hours unless
    `expires_in_seconds` says otherwise.
    """

    name = "spend_cap"
    defaults: Mapping[str, Any] = {
        **dict.fromkeys(GRANT),
        "expires_in_seconds": 7200,
        "variable": "VAULT_KEY",
    }

    def step_init(self, *_: Any, **__: Any) -> None:
        """Refuses, before anything runs, what could never be issued."""
        if not self.attributes["allowed_endpoints"]:
            raise MetaflowException("@spend_cap needs allowed_endpoints, say ['POST /v1/charges']")
        if all(self.attributes[cap] is None for cap in CAPS):
            raise MetaflowException(f"@spend_cap needs one of {', '.join(CAPS)}")

    def task_pre_step(
        self,
        step_name: str,  # noqa: ARG002 (Metaflow's signature)
        task_datastore: Any,  # noqa: ARG002
        metadata: Any,  # noqa: ARG002
        run_id: str,  # noqa: ARG002
        task_id: str,  # noqa: ARG002
        flow: Any,  # noqa: ARG002
        graph: Any,  # noqa: ARG002
        retry_count: int,
        max_user_code_retries: int,
        ubf_context: Optional[str],  # noqa: ARG002
        inputs: Any,  # noqa: ARG002
    ) -> None:
        """Before the fallback of `@catch`: revokes what the attempts before it left behind."""
        if retry_count > max_user_code_retries:
            from keybrake.task_keys import revoke_earlier  # noqa: PLC0415 (see mfextinit_keybrake.py)

            revoke_earlier(_task())

    def task_decorate(
        self,
        step_func: Callable[..., None],
        flow: Any,
        graph: Any,  # noqa: ARG002 (Metaflow's signature)
        retry_count: int,
        max_user_code_retries: int,
        ubf_context: Optional[str],  # noqa: ARG002
    ) -> Callable[..., None]:
        """The step with a key around it. The fallback of `@catch`, which comes after the last retry, gets none."""
        if retry_count > max_user_code_retries:
            return step_func

        @functools.wraps(step_func)
        def with_a_key(*inputs: Any) -> None:
            from keybrake.task_keys import task_key  # noqa: PLC0415 (see mfextinit_keybrake.py)

            grant = {name: self._value(name, flow) for name in GRANT}
            with task_key(_task(), str(retry_count), self.attributes["variable"], grant):
                step_func(*inputs)

        return with_a_key

    def _value(self, name: str, flow: Any) -> Any:
        value = self.attributes[name]
        return value(flow) if callable(value) else value


def _task() -> str:
    """What the labels of the task's keys begin with."""
    from metaflow import current  # noqa: PLC0415 (Metaflow is being loaded when this module is)

    return f"metaflow/{current.flow_name}/{current.run_id}/{current.step_name}/{current.task_id}"
