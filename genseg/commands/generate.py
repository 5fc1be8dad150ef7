"""`genseg generate`: instance alpha maps of a folder of images."""

import argparse

from genseg.commands.arguments import (
    add_reading,
    add_scope,
    add_wanted,
    path,
    scope,
    source,
    wanted,
)

SUMMARY = "instance alpha maps of a folder of images"
HELP = """\
Generate the instance alpha maps of every image of a folder with a run that has the alpha task.

  genseg generate runs/mine photos --out found

DIR/instances.json is COCO json: RLE, boxes, scores, one category. Killed? The same command goes on
where it was, also with another number of processes or shards.

Images may have any size. Larger ones are shrunk as in training, to the short side alpha.side of the
run (512 by default), and their instances are enlarged again. --side 0 keeps their own size, which
finds small instances and takes longer; --side PIXELS chooses another one. An image still larger
than alpha.generate.tile (1024) is processed in overlapping tiles. A TIFF of more than 100 million
pixels, an OME-Zarr and a slide are never decoded whole: their tiles are read one row after the
other, and a tile of plain background is not looked at. --level N and --um-per-pixel X take a level
of a pyramid in place of --side, --region FILE a part of the image:

  genseg generate runs/mine map.tif --out found --um-per-pixel 50000 --region field.geojson

Large objects of photographs, by what a frozen teacher sees and without any training:

  genseg generate cut photos --teacher dinov2.safetensors --out found

Several machines: each with --num-shards N and its own --shard-index 0 ... N-1, all with one DIR;
the last one writes the json.
Several processes: torchrun --nproc_per_node 2 tools/generate.py RUN FOLDER --out DIR.

Next: genseg convert DIR/instances.json --to cvat, genseg evaluate alpha RUN --data LABELS.json.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "run",
        type=path,
        metavar="RUN",
        help="a run directory, an alpha.safetensors, or a proposer: tree, otsu, cut, ...",
    )
    parser.add_argument(
        "folder",
        type=source,
        metavar="FOLDER",
        help="images: a folder tree, a text list or a COCO json",
    )
    parser.add_argument(
        "--out", type=path, required=True, metavar="DIR", help="instances.json goes here"
    )
    add_wanted(parser)
    add_scope(parser)
    parser.add_argument(
        "--polygons", action="store_true", help="outlines in place of RLE; they lose holes"
    )
    parser.add_argument(
        "--alphas", action="store_true", help="also DIR/alphas/IMAGE-ID.png, 8-bit soft alpha maps"
    )
    parser.add_argument(
        "--cutouts", action="store_true", help="also DIR/cutouts/IMAGE-ID.png, RGBA, cut to the box"
    )
    parser.add_argument(
        "--shard-index", type=int, default=0, metavar="I", help="which shard this is, from 0"
    )
    parser.add_argument(
        "--num-shards",
        type=int,
        default=1,
        metavar="N",
        help="number of shards the images are split into",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="start over in a DIR that holds another result"
    )
    add_reading(parser)


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.core import dist
    from genseg.reports.report import LiveReport, try_report
    from genseg.workflows.generate.generate import GenerateOptions, generate_folder

    chosen = GenerateOptions(
        polygons=options.polygons,
        alphas=options.alphas,
        cutouts=options.cutouts,
        wanted=wanted(options),
        scope=scope(options),
        shard=options.shard_index,
        shards=options.num_shards,
        fresh=options.fresh,
    )
    live = LiveReport(options.out, print)
    result = generate_folder(options.run, options.folder, options.out, chosen, after=live.update)
    if dist.rank() == 0:
        print(result)
        if result.file is not None:
            try_report(options.out, options.folder)
    return 0
