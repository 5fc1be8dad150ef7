"""`genseg scan`: what is in a folder of images."""

import argparse

from genseg.commands.arguments import add_reading, source

SUMMARY = "check a folder of images before anything is trained on it"
HELP = """\
Report sizes, formats, broken files and duplicates of a folder, a list or a COCO json, and its
labels.

  genseg scan photos

Next: genseg pretrain --config simclr_alpha data.path=FOLDER run=RUN.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "path", type=source, metavar="FOLDER", help="a folder tree, a text list or a COCO json"
    )
    add_reading(parser, "what the file holds, where that is one picture")


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.workflows.labels.scan import scan

    print(scan(options.path))
    return 0
