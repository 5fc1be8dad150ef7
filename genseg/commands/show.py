"""The commands that show what came out, or hand it over: visualize, app, convert."""

import argparse

from genseg.commands.arguments import path

VISUALIZE_HELP = """\
Pictures. What comes out depends on what PATH is.

  genseg visualize runs/mine                a run: runs/mine/report.html, one file that needs no network
  genseg visualize runs/mine photos         the same, with the instances of other images
  genseg visualize found photos             what genseg generate has written, and its images
  genseg visualize runs                     a folder of runs: runs/index.html, which compares them
  genseg visualize found/instances.json --images photos --out grid.png    jsons: images and instances as one PNG

A command that makes a run, or finds instances, writes its report every now and then and at its end: the page of what
goes on reads itself again.
"""
APP_HELP = """\
A live page on this machine (needs pip install 'genseg[app]'): drop an image, see its instances, click a place to see
the one there and keep it if you want it, move the threshold, download COCO json or RGBA cut-outs; with two runs,
compare them. It opens runs with the alpha task and detectors of genseg finetune (places, mask_rcnn, faster_rcnn).

  genseg app runs/mine
  genseg app runs/mine runs/detector

The page is served to this machine alone, with no public link, and answers no other web page. An upload is removed as
soon as it is read.
"""
CONVERT_HELP = """\
Instances as labelling tools import them, and label images both ways. docs/how_to.md has the steps for each.

  genseg convert found/instances.json --to cvat --out found/cvat.zip
  genseg convert found/instances.json --to fiftyone --out found/fiftyone.json --images photos
  genseg convert found/instances.json --to labelstudio --out found/labelstudio.json

Label images, as Cellpose, StarDist, Fiji and napari have them, a whole number for each instance:

  genseg convert found/instances.json --to labels --out found/labels
  genseg convert masks --to coco --images photos --out train.json

YOLO's boxes and segments, with one json for each split of a data.yaml:

  genseg convert data.yaml --to coco --out labels.json
"""


GRID = {  # options of the PNG of jsons
    **{"images": None, "out": None, "count": 12, "columns": 3, "side": 192},
    **{"cutouts": False, "titles": False, "seed": 0},
}


def add_show(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add visualize, app and convert."""
    raw = argparse.RawDescriptionHelpFormatter
    p = commands.add_parser("visualize", help="a report of a run, an index of runs, or a PNG of instances",
                            description=VISUALIZE_HELP, formatter_class=raw)  # fmt: skip
    p.add_argument("paths", type=path, nargs="+", metavar="PATH", help="RUN [FOLDER], RUNS, or JSON...")
    grid = p.add_argument_group("for a PNG of jsons")
    grid.add_argument("--images", type=path, metavar="FOLDER", help="where the images lie")
    grid.add_argument("--out", type=path, metavar="FILE.png")
    grid.add_argument("--count", type=int, help="images, drawn by --seed (default: 12; 0: all)")
    grid.add_argument("--columns", type=int, help="images in a row (default: 3)")
    grid.add_argument("--side", type=int, help="pixels of each picture (default: 192)")
    grid.add_argument("--cutouts", action="store_true", help="also what each json cuts out, on a checkerboard")
    grid.add_argument("--titles", action="store_true", help="a word above each picture of the first row")
    grid.add_argument("--seed", type=int, help="another draw (default: 0)")
    p.set_defaults(**GRID)
    p.set_defaults(act=_visualize)

    p = commands.add_parser("app", help="a live page: drop an image, see its instances", description=APP_HELP,
                            formatter_class=raw)  # fmt: skip
    p.add_argument("runs", type=path, nargs="+", metavar="RUN",
                   help="a run with the alpha task, or a detector; several are compared")  # fmt: skip
    p.add_argument("--port", type=int, default=7860, help="of this machine's own address (default: 7860)")
    p.add_argument("--max-mb", type=int, default=200, help="largest image in megabytes (default: 200)")
    p.set_defaults(act=_app)

    p = commands.add_parser("convert", help="instances for a labelling tool", description=CONVERT_HELP,
                            formatter_class=raw)  # fmt: skip
    p.add_argument("file", type=path, metavar="JSON|FOLDER",
                   help="instances.json, or any COCO json; for coco label images (a folder) or data.yaml")  # fmt: skip
    kinds = ("cvat", "fiftyone", "labelstudio", "labels", "coco")
    p.add_argument("--to", required=True, choices=kinds, help="the tool, or what it writes")
    p.add_argument("--out", type=path, required=True, metavar="FILE",
                   help="FILE.zip for CVAT, a folder for labels, else FILE.json")  # fmt: skip
    p.add_argument("--score", type=float, default=0.0, help="leave out instances of a lower score")
    p.add_argument("--images", metavar="WHERE", help="goes before each file name: a folder for FiftyOne, a URL for "
                   "Label Studio (default there: /data/local-files/?d=); of label images, their images")  # fmt: skip
    p.set_defaults(act=_convert)


def _visualize(options: argparse.Namespace) -> int:
    from genseg.reports.grid import visualize
    from genseg.reports.index import write_index
    from genseg.reports.report import write_report
    from genseg.reports.run import LEFT_BEHIND

    first, *more = options.paths
    if first.is_dir():
        if len(more) > 1 or (given := [f"--{name}" for name, value in GRID.items() if getattr(options, name) != value]):
            raise ValueError(
                f"{first} is a folder: give it alone, or with one folder of images"
                + ("" if len(more) > 1 else f"; {', '.join(given)} are for the PNG of jsons")
            )
        is_run = any((first / name).exists() for name in LEFT_BEHIND)
        print(write_report(first, str(more[0]) if more else None) if is_run or more else write_index(first))
        return 0
    if options.out is None or options.images is None:
        if first.suffix.lower() != ".json":
            raise FileNotFoundError(f"there is no folder {first}: give a run directory, a folder of runs, or jsons")
        raise ValueError("a PNG of jsons needs --images FOLDER and --out FILE.png")
    print(
        visualize(
            options.paths, options.images, options.out, count=options.count, columns=options.columns,
            side=options.side, seed=options.seed, cutouts=options.cutouts, titles=options.titles,
        )
    )  # fmt: skip
    return 0


def _app(options: argparse.Namespace) -> int:
    from genseg.reports.app import serve

    serve(options.runs, port=options.port, max_mb=options.max_mb)
    return 0


def _convert(options: argparse.Namespace) -> int:
    from genseg.workflows.labels.convert import convert

    print(convert(options.file, options.to, options.out, score=options.score, images=options.images))
    return 0
