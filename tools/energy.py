"""`accelerate launch tools/energy.py ...` is `genseg energy ...`, on as many processes as it
starts."""

import sys

from genseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["energy", *sys.argv[1:]]))
