"""`genseg evaluate alpha`: instance alpha maps against labels."""

import argparse

from genseg.commands.arguments import add_resolution, add_wanted, path, scope, wanted

SUMMARY = "instance alpha maps against a labelled COCO json"
HELP = """\
Measure how well instance alpha maps fit the labels of a COCO json that no run has seen: AP, AR, the
mean of TP / (TP + FP + FN), mBO, CorLoc and FG-ARI; by kind of image and by size. All categories
count as one.

  genseg evaluate alpha runs/mine --data val.json

A run first generates the instances of the json's images, into RUN/evaluated, and goes on there if
it is killed. It keeps instances from the run's own score on. To keep more, as detectors do for AP,
AR and the calibration error, lower --score; TP / (TP + FP + FN) then stays as it was, while mBO,
FG-ARI and recall rise, because they count all that was generated:

  genseg evaluate alpha runs/mine --data val.json --score 0.05 --threshold 0.5
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "found",
        type=path,
        nargs="+",
        metavar="RUN|FILE",
        help="a run, a classical proposer, or a json of instances; several are compared",
    )
    parser.add_argument(
        "--data", type=path, required=True, metavar="JSON", help="COCO json with the labels"
    )
    parser.add_argument(
        "--alphas",
        type=path,
        metavar="DIR",
        help="soft alphas of the labels, IMAGE-N.png; those of FILE lie in alphas/ beside it",
    )
    add_wanted(parser)
    add_resolution(parser)
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="least score for TP/(TP+FP+FN) (default: all)",
    )
    parser.add_argument("--out", type=path, metavar="JSON", help="write all numbers there")


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.workflows.evaluate.alpha import evaluate_runs

    result = evaluate_runs(
        options.found,
        options.data,
        alphas=options.alphas,
        wanted=wanted(options),
        scope=scope(options),
        threshold=options.threshold,
        out=options.out,
        say=print,
    )
    print(result)
    return 0
