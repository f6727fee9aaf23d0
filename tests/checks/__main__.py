"""`python tests/checks CHECK`: see `check_commands`."""

import sys

from check_commands import main

if __name__ == "__main__":
    sys.exit(main())
