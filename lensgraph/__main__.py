"""`python -m lensgraph` is the program `lensgraph`."""

import sys

from lensgraph.graphs.program.main import main

if __name__ == "__main__":
    sys.exit(main())
