"""`genseg embed`: vectors of images and instances."""

import argparse

from genseg.commands.arguments import add_reading, path

SUMMARY = "vectors of images or of instances, for search, clusters and plots"
HELP = """\
Write a vector for each image of a folder, or for each instance of a result, by the encoder of a
run.

  genseg embed runs/mine photos --out vectors.npz
  genseg embed runs/mine found --out vectors.csv

Of an image it is the encoder's last map of its centre square, averaged. Of an instance that of the
square around it, averaged over its mask, or over its soft alpha map where FOUND/alphas has it.

An .npz holds the arrays vectors (a row each), image, and of instances id and score. .csv and
.parquet have the columns v0, v1, ... behind these, and are written row by row.

Next: genseg group FOUND parts instances by these vectors; genseg choose takes images to label.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("run", type=path, metavar="RUN", help="a run, or its encoder.safetensors")
    parser.add_argument(
        "data",
        type=path,
        metavar="FOLDER|FOUND",
        help="images; or what genseg generate or predict has written, or a COCO json",
    )
    parser.add_argument(
        "--out", type=path, required=True, metavar="FILE", help="FILE.npz, FILE.csv, FILE.parquet"
    )
    parser.add_argument(
        "--of",
        choices=("images", "instances"),
        help="what has a vector (default: instances, where there are some)",
    )
    parser.add_argument(
        "--images",
        type=path,
        metavar="FOLDER",
        help="where the images of instances lie (default: as the result or the json names them)",
    )
    parser.add_argument(
        "--score", type=float, default=0.0, help="leave out instances of a lower score"
    )
    add_reading(parser)


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.workflows.vectors.embed import embed

    print(
        embed(
            options.run,
            options.data,
            options.out,
            of=options.of,
            images=options.images,
            score=options.score,
        )
    )
    return 0
