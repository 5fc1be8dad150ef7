"""`genseg app`: a live page."""

import argparse

from genseg.commands.arguments import add_reading, add_teacher, path

SUMMARY = "a live page: drop an image, see its instances"
HELP = """\
A live page on this machine (needs pip install 'genseg[app]'). Drop an image and see its instances;
click a place to see the instance there and keep it if you want it; move the threshold; download
COCO json or RGBA cut-outs; with two runs, compare them. It opens runs with the alpha task and
detectors of genseg finetune (places, mask_rcnn, faster_rcnn); a proposer by its name is shown like
a run, to see what a run started from. Where a run of genseg energy is
given too, or lies beside the run of its decoder, a click also says the energy E of the instance
there, sliders lead from the code of one instance to that of another, and other codes are drawn.

  genseg app runs/mine
  genseg app runs/mine runs/mine-critic
  genseg app runs/mine runs/detector
  genseg app runs/mine tree
  genseg app runs/photos cut --teacher dinov2.safetensors

Of a file of several channels or pages it uses what the runs were trained on, or what is written
into the page's Channels and Pages.

The page is served to this machine alone, with no public link, and answers no other web page. An
upload is removed as soon as it is read.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "runs",
        type=path,
        nargs="+",
        metavar="RUN",
        help="a run with the alpha task, a detector, or a proposer; several are compared",
    )
    parser.add_argument(
        "--side",
        type=int,
        metavar="PIXELS",
        help="shrink larger images to this short side for proposers (default: never)",
    )
    add_teacher(parser)
    parser.add_argument(
        "--port", type=int, default=7860, help="of this machine's own address (default: 7860)"
    )
    parser.add_argument(
        "--max-mb", type=int, default=200, help="largest image in megabytes (default: 200)"
    )
    add_reading(parser)


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.reports.app import serve
    from genseg.workflows.generate.finder import Wanted

    wanted = Wanted(
        side=options.side,
        teacher=options.teacher,
        teacher_name=options.teacher_name,
        download=options.download,
    )
    serve(options.runs, port=options.port, max_mb=options.max_mb, wanted=wanted)
    return 0
