"""`genseg evaluate representation`: what makes an encoder's features good."""

import argparse

from genseg.commands.arguments import path

SUMMARY = "encoders: smoothness, clusters, dimensions, rank, what labels share"
HELP = """\
Measure what makes a representation good, on the same images for all encoders, each number with its
standard error over images and with whether more of it is better:

  smoothness      how far noise, shifts and crops move an embedding; alignment and uniformity;
                  whether the label holds between neighbours
  clusters        neighbours, a linear probe, silhouette, k-means against the classes, Fisher ratio;
                  without labels the stability of clusters
  compactness     dimensions that hold the variance, the images (TwoNN), the accuracy; LiDAR
  independence    correlation and total correlation of dimensions; RankMe and the spectrum's shape
  shared factors  what linear probes know of each label set, and whether they read the same
                  directions

  genseg evaluate representation runs/mine runs/other --data photos/test
  genseg evaluate representation runs/mine --data val.json --layers --baselines

--data are class folders, images without classes (then measures of classes are left out), a COCO
json (categories of objects that are cut out; position, size, count, and its own keys of images), or
`embedded` and `embedded:scenes`, of which colour, position, size and count are known. --layers
measures after each stage of the encoder: is it in the middle already? Several runs also get their
similarity (linear CKA).

The numbers go into RUN/representation.json, or all into --out. Look at them, beside those of other
runs: genseg visualize RUN, genseg visualize FOLDER. What each says, and what it does not:
docs/guides/representations.md.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "runs",
        type=path,
        nargs="+",
        metavar="RUN",
        help="a run directory or an encoder.safetensors",
    )
    parser.add_argument("--data", required=True, metavar="FOLDER|JSON", help="images to measure on")
    parser.add_argument(
        "--layers", action="store_true", help="after each stage, not the last one alone"
    )
    parser.add_argument(
        "--images",
        type=int,
        default=2000,
        metavar="N",
        help="at most so many, drawn; 0: all (default: 2000)",
    )
    parser.add_argument(
        "--of",
        choices=("objects", "images"),
        help="of a json: objects, cut out, or whole images (default: objects where there are "
        "several categories)",
    )
    parser.add_argument(
        "--baselines",
        action="store_true",
        help="beside random weights, as they are and with batch norms fitted to the images",
    )
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: 0)")
    parser.add_argument("--out", type=path, metavar="JSON", help="write all numbers there")


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.workflows.evaluate.representation import evaluate_representation

    print(
        evaluate_representation(
            options.runs,
            options.data,
            layers=options.layers,
            images=options.images,
            of=options.of,
            baselines=options.baselines,
            seed=options.seed,
            out=options.out,
        )
    )
    return 0
