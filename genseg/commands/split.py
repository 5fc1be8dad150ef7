"""`genseg split`: a labelled json in two."""

import argparse

from genseg.commands.arguments import path

SUMMARY = "part a labelled json in two, for training and validation"
HELP = """\
Part a labelled COCO json in two: LABELS-train.json to fine-tune on, LABELS-val.json to measure it
with.

  genseg split labels.json --val 0.3

Both are written beside it and use the same images. Images that belong together stay together, or
the validation score would be too good: those with an equal value of the key --by of the json's
images (by default `group`), such as tiles of one field, one patient or one video, and files with
equal bytes. The same command writes the same files again.

Next: genseg finetune data.train=LABELS-train.json data.val=LABELS-val.json.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("file", type=path, metavar="LABELS.json", help="a COCO json")
    parser.add_argument(
        "--val",
        type=float,
        default=0.3,
        metavar="PART",
        help="share of the images for val (default: 0.3)",
    )
    parser.add_argument(
        "--by",
        default="group",
        metavar="KEY",
        help="images with an equal value of it stay together (default: group)",
    )
    parser.add_argument("--seed", type=int, default=0, help="another draw (default: 0)")


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.workflows.labels.split import split_labels

    print(split_labels(options.file, part=options.val, by=options.by, seed=options.seed))
    return 0
