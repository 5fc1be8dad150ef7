"""`genseg group`: instances of like look."""

import argparse

from genseg.commands.arguments import add_reading, path

SUMMARY = "part instances into groups of like look, to name"
HELP = """\
Part instances into groups of like look, without a label, and show cut-outs of each.

  genseg group found --k 4 --out groups.json
  genseg group found --k 4 --out groups.json --names round,long,dividing,debris

FOUND is what genseg generate or predict has written, or a COCO json. Each instance is embedded by
the encoder of the run that found it (or of --run), as genseg embed does; k-means parts the vectors.
groups.json is FOUND's json with the groups as its categories, the largest first; groups.html shows
the most typical of each. The same command gives the same groups, so look first, then name them.

Groups are of what the encoder sees alike, which need not be what you would call a class: look
before you count.

Next: genseg measure groups.json; genseg finetune learns the classes, once they are corrected.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "found", type=path, metavar="FOUND", help="a folder of results, or a COCO json"
    )
    parser.add_argument("--k", type=int, required=True, metavar="N", help="how many groups")
    parser.add_argument(
        "--out", type=path, required=True, metavar="FILE.json", help="a page goes beside it"
    )
    parser.add_argument(
        "--run", type=path, metavar="RUN", help="whose encoder (default: that which found them)"
    )
    parser.add_argument(
        "--names", metavar="LIST", help="of the groups by commas, the largest first"
    )
    parser.add_argument(
        "--images",
        type=path,
        metavar="FOLDER",
        help="where the images lie (default: as the result or the json names them)",
    )
    parser.add_argument(
        "--score", type=float, default=0.0, help="leave out instances of a lower score"
    )
    add_reading(parser)


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.reports.instances.grouped import write_grouped
    from genseg.workflows.vectors.group import group

    result = group(
        options.found,
        options.out,
        k=options.k,
        run=options.run,
        names=[n.strip() for n in options.names.split(",")] if options.names else (),
        images=options.images,
        score=options.score,
    )
    print(result)
    print(f"report: {write_grouped(result)}")
    return 0
