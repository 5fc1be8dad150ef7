"""`genseg visualize`: pages and pictures."""

import argparse

from genseg.commands.arguments import add_reading, path

SUMMARY = "a report of a run, an index of runs, or a PNG of instances"
HELP = """\
Write pages and pictures. PATH decides which.

  genseg visualize runs/mine                a run: runs/mine/report.html, one file, no network
  genseg visualize runs/mine photos         the same, with the instances of other images
  genseg visualize found photos             a result of genseg generate, and its images
  genseg visualize runs                     a folder of runs: runs/index.html, which compares them
  genseg visualize found/instances.json --images photos --out grid.png
                                            jsons: images and instances as one PNG

Commands that make a run or find instances write its report now and then and at their end; the page
reloads itself while work goes on.
"""
GRID = {  # options of the PNG of jsons
    "images": None,
    "out": None,
    "count": 12,
    "columns": 3,
    "side": 192,
    "cutouts": False,
    "titles": False,
    "seed": 0,
}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "paths", type=path, nargs="+", metavar="PATH", help="RUN [FOLDER], RUNS, or JSON..."
    )
    grid = parser.add_argument_group("for a PNG of jsons")
    grid.add_argument("--images", type=path, metavar="FOLDER", help="where the images lie")
    grid.add_argument("--out", type=path, metavar="FILE.png")
    grid.add_argument("--count", type=int, help="images, drawn by --seed (default: 12; 0: all)")
    grid.add_argument("--columns", type=int, help="images in a row (default: 3)")
    grid.add_argument("--side", type=int, help="pixels of each picture (default: 192)")
    grid.add_argument(
        "--cutouts", action="store_true", help="also the cut-outs of each json, on a checkerboard"
    )
    grid.add_argument(
        "--titles", action="store_true", help="a word above each picture of the first row"
    )
    grid.add_argument("--seed", type=int, help="another draw (default: 0)")
    parser.set_defaults(**GRID)
    add_reading(parser)


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.reports.grid import visualize
    from genseg.reports.index import write_index
    from genseg.reports.report import write_report
    from genseg.reports.run import LEFT_BEHIND

    first, *more = options.paths
    if first.is_dir():
        given = [f"--{name}" for name, value in GRID.items() if getattr(options, name) != value]
        if len(more) > 1 or given:
            raise ValueError(
                f"{first} is a folder: give it alone, or with one folder of images"
                + ("" if len(more) > 1 else f"; {', '.join(given)} are for the PNG of jsons")
            )
        if more or any((first / name).exists() for name in LEFT_BEHIND):
            print(write_report(first, str(more[0]) if more else None))
        else:
            print(write_index(first))
        return 0
    if options.out is None or options.images is None:
        if first.suffix.lower() != ".json":
            raise FileNotFoundError(
                f"there is no folder {first}: give a run directory, a folder of runs, or jsons"
            )
        raise ValueError("a PNG of jsons needs --images FOLDER and --out FILE.png")
    print(
        visualize(
            options.paths,
            options.images,
            options.out,
            count=options.count,
            columns=options.columns,
            side=options.side,
            seed=options.seed,
            cutouts=options.cutouts,
            titles=options.titles,
        )
    )
    return 0
