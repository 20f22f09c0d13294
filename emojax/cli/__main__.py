"""`python -m emojax.cli`: the same as `emojax`."""

import sys

from emojax.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
