"""`genseg compare`: what pretraining is worth, in labels."""

import argparse

from genseg.commands.arguments import path
from genseg.recipes import one_length, recipe

SUMMARY = "measure what pretraining is worth, in labels"
HELP = """\
Measure what pretraining is worth: the same fine-tuning from several encoders, with few labels and
with many.

  genseg compare --config mask_rcnn --arms random,runs/mine --labels 4,10%,100% --seeds 3 \\
      --out runs/worth data.train=train.json data.val=val.json

An arm is an encoder, NAME=ENCODER, or NAME=ENCODER@CONFIG.yaml for another model. With
NAME=ENCODER@LIST.txt the first images of a list of genseg choose are labelled, for every seed the
same ones, in place of a draw. A seed draws
which images are labelled (evenly over their `kind`, the same for all arms) and everything random of
the training, so arms are compared in pairs. The command writes table.txt, plot.svg, compare.json
and a report, and says whether the difference to the first arm is more than noise.

A finished cell is never computed twice: with the same --out, more labels, arms or seeds run only
what is missing.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--config", type=path, metavar="FILE", help="a YAML file, or the name of a recipe"
    )
    parser.add_argument(
        "--arms",
        required=True,
        metavar="LIST",
        help="encoders by commas; the first is the baseline",
    )
    parser.add_argument(
        "--labels", required=True, metavar="LIST", help="labelled images by commas: 4,16,10%%,100%%"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        metavar="N",
        help="draws of labels for each number (default: 3)",
    )
    parser.add_argument(
        "--out", type=path, required=True, metavar="DIR", help="cells and tables go here"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="cells at a time, on one machine (default: 1)",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any key of the recipe")


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.reports.report import LiveReport, try_report
    from genseg.workflows.finetune.cells import parse_arms
    from genseg.workflows.finetune.compare import compare

    print(
        compare(
            parse_arms(options.arms),
            labels=options.labels,
            seeds=options.seeds,
            out=options.out,
            file=recipe(options.config, "finetune"),
            overrides=one_length(options.overrides),
            jobs=options.jobs,
            watch=LiveReport,
        )
    )
    try_report(options.out)
    return 0
