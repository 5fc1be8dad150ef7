"""`python tools/evaluate.py ...` is `genseg evaluate ...`."""

import sys

from genseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
