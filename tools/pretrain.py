"""`accelerate launch tools/pretrain.py ...` is `genseg pretrain ...`, on as many processes as it
starts."""

import sys

from genseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
