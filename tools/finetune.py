"""`accelerate launch tools/finetune.py ...` is `genseg finetune ...`, on as many processes as it
starts."""

import sys

from genseg.cli import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
