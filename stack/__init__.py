"""The local stack: sandbox vendor, ledger and Envoy on one machine.

This package is the launcher behind `make run`, `make up` and `make down` (`python3 -m stack --help`) and the engine
of the end-to-end tests. It needs Python 3.9 and nothing but the standard library.

Here: finding and building the parts, the run folder with its generated keys, starting, watching and ending the
parts, the demo; for tests and examples the clock that moves, the sandbox's control and the watchdog. Not here: anything
that decides about a request or about money; that is the filter and the ledger.

From Python::

    from stack import Options, Ports, Stack
    with Stack(Options(run_dir=Path(".run"), ports=Ports.free())) as stack:
        print(stack.url, stack.admin_key)
"""

from stack.errors import StackError
from stack.local import Options, Stack, start_on_free_ports
from stack.ports import Ports
from stack.vendor import Vendor

__all__ = ["Options", "Ports", "Stack", "StackError", "Vendor", "start_on_free_ports"]
