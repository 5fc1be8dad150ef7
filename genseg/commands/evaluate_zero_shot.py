"""`genseg evaluate zero-shot`: class names read from images."""

import argparse

from genseg.commands.arguments import path, source

SUMMARY = "class names that a semantic run reads from images"
HELP = """\
Measure how often the nearest word vector names the right class. The run was pretrained with
method.target.name=semantic, so it is supervised by class names; classes that it never saw are read,
too, by their words alone.

  genseg pretrain --config byol_semantic data.path=photos/train method.target.words=glove.txt \\
      'method.target.unseen=[cat, truck]' run=runs/words
  genseg evaluate zero-shot runs/words --data photos/test

Rows: seen classes among their own names, unseen ones among theirs and among all, and all among all.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("run", type=path, metavar="RUN", help="a run with a semantic target")
    parser.add_argument(
        "--data",
        type=source,
        required=True,
        metavar="FOLDER|JSON",
        help="class folders, a list with classes, or a COCO json, whose boxes are read",
    )
    parser.add_argument(
        "--words", type=path, metavar="FILE", help="word vectors (default: those of the run)"
    )
    parser.add_argument(
        "--names",
        type=_name,
        nargs="+",
        default=[],
        metavar="CLASS=WORDS",
        help="what classes are called, such as 'outwear=outer wear'",
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="further names that an image may be taken for",
    )
    parser.add_argument(
        "--limit", type=int, default=0, help="at most this many images (default: all)"
    )


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.core.check import at_least
    from genseg.workflows.pretrain.zero_shot import zero_shot

    at_least(0, limit=options.limit)
    print(
        zero_shot(
            options.run,
            options.data,
            words=None if options.words is None else str(options.words),
            names=dict(options.names),
            classes=options.classes,
            limit=options.limit,
        )
    )
    return 0


def _name(text: str) -> tuple[str, str]:
    """`class=words`, as an argument. Raises ArgumentTypeError for something else."""
    name, equals, words = text.partition("=")
    if not (name and equals and words.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form CLASS=WORDS")
    return name, words
