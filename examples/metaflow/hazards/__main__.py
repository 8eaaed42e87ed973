"""`python -m hazards [--json] [NAME …]`, from `make example-metaflow`."""

import sys

from examples.runner.play import main
from hazards.scenarios import HAZARDS

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], HAZARDS, "metaflow"))
