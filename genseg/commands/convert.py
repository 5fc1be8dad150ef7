"""`genseg convert`: instances for labelling tools, and what they give back as COCO json."""

import argparse

from genseg.commands.arguments import add_reading, path

SUMMARY = "instances for a labelling tool, and corrected ones back"
HELP = """\
Write instances as labelling tools import them, and make a COCO json of what they give back.
docs/guides/labelling_tools.md has the steps for each tool.

  genseg convert found/instances.json --to cvat --out found/cvat.zip
  genseg convert found/instances.json --to fiftyone --out found/fiftyone.json --images photos
  genseg convert found/instances.json --to labelstudio --out found/labelstudio.json
  genseg convert found/instances.json --to geojson --out found/qupath
  genseg convert found/instances.json --to imagej --out found/rois
  genseg convert found/instances.json --to napari --out found/napari
  genseg convert found/instances.json --to yolo --out found/yolo --images photos

For QuPath each image has a .geojson of detections, with holes, class, score and shape. A GeoTIFF's
is in coordinates of its map with the CRS, as QGIS reads it; --offset 0,0 leaves pixels. Tiles of a
slide are put back into it by --offset X,Y, or by --offset names where QuPath has named them (slide
[x=512,y=1024,w=256,h=256].png).

Label images, as Cellpose, StarDist, Fiji and napari use them, a whole number for each instance:

  genseg convert found/instances.json --to labels --out found/labels

Back, as the json that genseg finetune takes, of label images, .geojson, ImageJ's .roi and .zip (one
file for each image, in a folder), CVAT's .xml and .zip, Label Studio's .json, and any COCO json:

  genseg convert found/qupath --to coco --images photos --out train.json
  genseg convert cvat.zip --to coco --images found/instances.json --out train.json

With the json that was corrected as --images, images, categories and instances keep their ids.
YOLO's boxes and segments become one json for each split of a data.yaml:

  genseg convert data.yaml --to coco --out labels.json
"""
TOOLS = (
    *("cvat", "fiftyone", "labelstudio", "geojson", "imagej", "napari", "yolo"),
    *("labels", "coco"),
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "file",
        type=path,
        metavar="FILE|FOLDER",
        help="instances.json, or any COCO json; for coco what a tool has exported",
    )
    parser.add_argument(
        "--to", required=True, choices=TOOLS, help="the tool or format to write for"
    )
    parser.add_argument(
        "--out",
        type=path,
        required=True,
        metavar="FILE",
        help="FILE.zip for CVAT; FILE.json for FiftyOne, Label Studio and coco; else a folder",
    )
    parser.add_argument(
        "--score", type=float, default=0.0, help="leave out instances of a lower score"
    )
    parser.add_argument(
        "--images",
        metavar="WHERE",
        help="goes before each file name: a folder for FiftyOne, a URL for Label Studio (default "
        "there: /data/local-files/?d=); for coco the folder of the images, or their json, whose "
        "ids are kept",
    )
    parser.add_argument(
        "--offset",
        metavar="X,Y|names",
        help="for geojson, both ways: where the images lie in their slide",
    )
    add_reading(parser, "as --images, where it is a json of genseg")


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.workflows.labels.convert import convert

    result = convert(
        options.file,
        options.to,
        options.out,
        score=options.score,
        images=options.images,
        offset=options.offset,
    )
    print(result)
    return 0
