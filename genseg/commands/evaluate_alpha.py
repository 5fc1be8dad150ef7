"""`genseg evaluate alpha`: instance alpha maps against labels."""

import argparse
import tempfile
from pathlib import Path

from genseg.commands.arguments import add_wanted, path, wanted

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
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="least score for TP/(TP+FP+FN) (default: all)",
    )
    parser.add_argument("--out", type=path, metavar="JSON", help="write all numbers there")


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.core.check import between
    from genseg.runs.folder import check_out
    from genseg.workflows.evaluate.alpha import evaluate_alpha, read_truth
    from genseg.workflows.generate.finder import Wanted, is_proposer
    from genseg.workflows.generate.generate import generated

    alphas = options.alphas is not None  # all that may be wrong is told before hours of work
    if alphas and not options.alphas.is_dir():
        raise ValueError(
            f"--alphas {options.alphas} is no folder; genseg scenes --alphas writes one"
        )
    if twice := [found for found in options.found if options.found.count(found) > 1]:
        raise ValueError(f"{twice[0]} is given twice; give it once")
    chosen = wanted(options)
    if options.threshold is not None:
        between(0, 1, threshold=options.threshold)
    if options.out:
        check_out(options.out)
    if options.score is not None and (fixed := [str(f) for f in options.found if is_proposer(f)]):
        print(
            f"note: --score is for runs; {', '.join(fixed)} has a score of its own for each "
            "region, and keeps all"
        )
    if chosen != Wanted() and (jsons := [str(f) for f in options.found if f.suffix == ".json"]):
        print(
            f"note: --score, --min-area and --side are for runs and proposers; {', '.join(jsons)} "
            "is taken as it is"
        )
    read_truth(options.data, options.alphas)
    with tempfile.TemporaryDirectory() as scratch:
        files = [
            generated(path, options.data, Path(scratch), alphas=alphas, wanted=chosen)
            for path in options.found
        ]
        print(
            evaluate_alpha(
                files,
                options.data,
                names=[str(found) for found in options.found],
                alphas=options.alphas,
                out=options.out,
                threshold=options.threshold,
            )
        )
    return 0
