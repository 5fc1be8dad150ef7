"""`genseg convert`: instances for labelling tools, and label images both ways."""

import argparse

from genseg.commands.arguments import path

SUMMARY = "instances for a labelling tool; label images and YOLO as COCO json"
HELP = """\
Write instances as labelling tools import them, and label images both ways.
docs/guides/labelling_tools.md has the steps for each tool.

  genseg convert found/instances.json --to cvat --out found/cvat.zip
  genseg convert found/instances.json --to fiftyone --out found/fiftyone.json --images photos
  genseg convert found/instances.json --to labelstudio --out found/labelstudio.json

Label images, as Cellpose, StarDist, Fiji and napari use them, a whole number for each instance:

  genseg convert found/instances.json --to labels --out found/labels
  genseg convert masks --to coco --images photos --out train.json

YOLO's boxes and segments, one json for each split of a data.yaml:

  genseg convert data.yaml --to coco --out labels.json
"""
TOOLS = ("cvat", "fiftyone", "labelstudio", "labels", "coco")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "file",
        type=path,
        metavar="JSON|FOLDER",
        help="instances.json, or any COCO json; for coco label images (a folder) or data.yaml",
    )
    parser.add_argument(
        "--to", required=True, choices=TOOLS, help="the tool or format to write for"
    )
    parser.add_argument(
        "--out",
        type=path,
        required=True,
        metavar="FILE",
        help="FILE.zip for CVAT, a folder for labels, else FILE.json",
    )
    parser.add_argument(
        "--score", type=float, default=0.0, help="leave out instances of a lower score"
    )
    parser.add_argument(
        "--images",
        metavar="WHERE",
        help="goes before each file name: a folder for FiftyOne, a URL for Label Studio (default "
        "there: /data/local-files/?d=); for label images, the folder of their images",
    )


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.workflows.labels.convert import convert

    result = convert(
        options.file, options.to, options.out, score=options.score, images=options.images
    )
    print(result)
    return 0
