"""`genseg try`: the first minutes on a folder."""

import argparse

from genseg.commands.arguments import add_reading
from genseg.core import interrupts

SUMMARY = "five minutes on a folder: learn, generate, look"
HELP = """\
Five minutes on your own images: train the alpha task for a short time, generate instances, show
them, and say what to change before a full run.

  genseg try photos
  genseg try embedded:nuclei/train --labels embedded:nuclei/test.json

The training lasts about --minutes on this machine; images=N, steps=N or epochs=N sets its length
instead. The run directory holds sheet.png, report.html and found/report.html to look at. With
--labels the instances are compared with those labels, and with classical methods; nothing learns
from them.

Killed? The same command goes on where it was.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "folder", metavar="FOLDER", help="images: a folder tree, a text list or a COCO json"
    )
    parser.add_argument(
        "--run", metavar="DIR", help="the run directory (default: runs/try-NAME of the folder)"
    )
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="of training, about (default: 5)"
    )
    parser.add_argument("--labels", metavar="JSON", help="a COCO json with masks to measure on")
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="any key of the recipe alpha"
    )
    add_reading(parser, "what a file holds, where that is one picture")
    parser.set_defaults(config=None)


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.tryout import trial

    given = {"channels": options.channels, "pages": options.pages}
    words = [f"data.{key}={word}" for key, word in given.items() if word]
    result = trial(
        options.folder,
        run=options.run,
        minutes=options.minutes,
        labels=options.labels,
        overrides=[*options.overrides, *words],
    )
    if not result.pretrained.complete:
        return interrupts.exit_code()
    print(result)
    return 0
