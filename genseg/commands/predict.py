"""`genseg predict`: what a fine-tuned model finds in images."""

import argparse

from genseg.commands.arguments import add_energy, add_reading, add_scope, path, scope, source

SUMMARY = "objects, or classes of pixels, in a folder of images"
HELP = """\
Find objects, or the class of each pixel, in every image of a folder, with a run of genseg finetune.

  genseg predict runs/mine_nuclei photos --out found
  genseg predict runs/places photos --energy runs/places-critic --out ranked

DIR/predictions.json is COCO json with the categories of the training labels; for a semantic model
DIR/masks/ holds a PNG for each image. Killed? The same command goes on where it was.
Images larger than memory (TIFF, OME-Zarr, slides) are read tile by tile, as genseg generate does.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "run", type=path, metavar="RUN", help="a run of genseg finetune, or its model.safetensors"
    )
    parser.add_argument(
        "folder",
        type=source,
        metavar="FOLDER",
        help="images: a folder tree, a text list or a COCO json",
    )
    parser.add_argument(
        "--out", type=path, required=True, metavar="DIR", help="predictions.json goes here"
    )
    parser.add_argument(
        "--score", type=float, default=0.5, help="least score of an object (default: 0.5)"
    )
    add_energy(parser, "what a model of places finds")
    add_scope(parser)
    parser.add_argument(
        "--fresh", action="store_true", help="start over in a DIR that holds another result"
    )
    add_reading(parser)


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.reports.report import LiveReport, try_report
    from genseg.workflows.generate.predict import predict

    live = LiveReport(options.out, print)
    said = predict(
        options.run,
        options.folder,
        options.out,
        score=options.score,
        energy=options.energy,
        scope=scope(options),
        fresh=options.fresh,
        after=live.update,
    )
    print(said)
    try_report(options.out, options.folder)
    return 0
