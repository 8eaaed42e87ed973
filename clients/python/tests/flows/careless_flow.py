"""A flow with a step that dies and is caught, and one that puts a key on `self`."""

import os
import signal

import keybrake
from metaflow import FlowSpec, catch, spend_cap, step


class CarelessFlow(FlowSpec):
    """Fails in its second step."""

    @catch(var="failure")
    @spend_cap(allowed_endpoints=["POST /v1/charges"], daily_usd_cap="1")
    @step
    def start(self):
        """Dies; the fallback of its decorator goes on."""
        os.kill(os.getpid(), signal.SIGKILL)
        self.next(self.keep)

    @step
    def keep(self):
        """Would keep a key for ever."""
        assert self.failure
        with keybrake.Client().vault_key(label="kept", allowed_endpoints=["POST /v1/charges"], uncapped=True) as key:
            self.key = key
        self.next(self.end)

    @step
    def end(self):
        """Not reached."""


if __name__ == "__main__":
    CarelessFlow()
