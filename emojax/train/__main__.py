"""`python -m emojax.train ...` is the same as `emojax train ...`."""

import sys

from emojax.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    sys.exit(main())
