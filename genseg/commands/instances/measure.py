"""`genseg measure`: instances as a table."""

import argparse

from genseg.commands.arguments import add_reading, path

SUMMARY = "a table of instances: sizes, shapes, brightness of each"
HELP = """\
Write a table with a row for each instance, for a spreadsheet, R or pandas.

  genseg measure found --out found/table.csv
  genseg measure labels.json --images photos --out table.parquet --pixel-size 0.65

FOUND is what genseg generate or predict has written, or any COCO json. The columns: image, id,
category, score; area, equivalent diameter, axes, perimeter, eccentricity, solidity, orientation,
centroid, and whether it touches the border (definitions: scikit-image's regionprops); of every
channel, in the values of the file (16 bits stay 16 bits), mean, sum, min, max, sd; and where
FOUND/alphas has soft alpha maps (genseg generate --alphas), the mean weighted by them, in which
blurred borders count as far as they belong to the instance. Micrometres where OME, ImageJ or
--pixel-size say how large a pixel is.

TABLE-images.csv has a row for each image: count, density, share of its area. TABLE.html shows a
histogram of areas, and brightness by area.

Next: genseg group FOUND parts instances by their look; genseg convert --to geojson shows them in
QuPath.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "found", type=path, metavar="FOUND", help="a folder of results, or a COCO json"
    )
    parser.add_argument(
        "--images",
        type=path,
        metavar="FOLDER",
        help="where the images lie (default: as the result or the json names them)",
    )
    parser.add_argument(
        "--out", type=path, required=True, metavar="TABLE", help="FILE.csv or FILE.parquet"
    )
    parser.add_argument(
        "--score", type=float, default=0.0, help="leave out instances of a lower score"
    )
    parser.add_argument(
        "--pixel-size",
        type=float,
        metavar="UM",
        help="micrometres of a pixel's side (default: as each file says)",
    )
    add_reading(parser, "all channels; the pages that FOUND was made of")


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.reports.instances.measured import write_measured
    from genseg.workflows.labels.measure import measure

    result = measure(
        options.found,
        options.out,
        images=options.images,
        score=options.score,
        pixel_size=options.pixel_size,
    )
    print(result)
    print(f"report: {write_measured(result)}")
    return 0
