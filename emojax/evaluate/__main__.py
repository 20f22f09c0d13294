"""`python -m emojax.evaluate DIR --manifest M.csv [--split test] --out E`: the same as `emojax evaluate`."""

import sys

from emojax.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
