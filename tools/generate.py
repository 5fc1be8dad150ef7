"""`accelerate launch tools/generate.py ...` is `genseg generate ...`, on as many processes as it
starts."""

import sys

from genseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["generate", *sys.argv[1:]]))
