"""`python -m emojax.evaluate ...` is the same as `emojax evaluate ...`."""

import sys

from emojax.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "evaluate")
    sys.exit(main())
