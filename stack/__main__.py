"""`python3 -m stack`."""

import sys

# Before any other import, in words that an old Python can read.
if sys.version_info < (3, 9):  # noqa: UP036
    sys.stderr.write("keybrake: Python 3.9 or newer is needed, this is %d.%d\n" % sys.version_info[:2])  # noqa: UP031
    sys.exit(1)

from stack.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
