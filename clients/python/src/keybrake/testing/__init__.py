"""For tests of your own: a local stack, and what its sandbox vendor executed. `keybrake.testing.plugin` is the pytest
plugin, which is loaded by itself where `keybrake` is installed."""

from keybrake.testing.local_stack import LocalStack, StackFailed
from keybrake.testing.sandbox import Sandbox

__all__ = ["LocalStack", "Sandbox", "StackFailed"]
