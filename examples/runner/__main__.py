"""`python -m examples.runner NAME … [-- --json HAZARD …]`: the named examples, on one stack, in one table."""

from __future__ import annotations

import importlib
import sys

from examples.runner.play import main

if __name__ == "__main__":
    mark = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    names, rest = sys.argv[1:mark], sys.argv[mark + 1 :]
    rows = [hazard for name in names for hazard in importlib.import_module(f"examples.{name}.hazards").HAZARDS]
    sys.exit(main(rest, rows, "examples"))
