"""A flow whose one task that matters begins only with a key."""

import os

from metaflow import FlowSpec, spend_cap, step


class OneStepFlow(FlowSpec):
    """Says so when it begins."""

    @spend_cap(allowed_endpoints=["POST /v1/charges"], daily_usd_cap=os.environ.get("CAP"))
    @step
    def start(self):
        """The task that matters."""
        print(f"began with a key: {'VAULT_KEY' in os.environ}")
        self.next(self.end)

    @step
    def end(self):
        """Nothing more."""


if __name__ == "__main__":
    OneStepFlow()
