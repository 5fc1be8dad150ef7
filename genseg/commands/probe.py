"""`genseg probe`: what an encoder is worth."""

import argparse

from genseg.commands.arguments import add_reading, path, source

SUMMARY = "measure an encoder by classifiers on its features"
HELP = """\
Measure an encoder by simple classifiers on its frozen features, beside random weights and raw
pixels.

  genseg probe runs/mine --train photos/train --test photos/test
  genseg probe runs/mine runs/other --train train.json --test val.json --kind fewshot --shots 1,5,10

--train and --test are class folders (a sub-folder for each class) or COCO jsons, whose boxes are
cut out with --margin and whose categories are the classes. Training labels are used here alone;
nothing is chosen on the test images.
  knn      k nearest neighbours vote: needs no training, shows the features as they are
  linear   logistic regression on standardised features; its strength is chosen on a fifth of the
           training images
  fewshot  the same on 1, 5, 10 images of each class, drawn --seeds times, the same for all
           encoders: mean ± standard deviation, and the difference to random weights draw by draw

With --data a run that was pretrained on word vectors (recipe byol_semantic) is read instead: how
often the nearest word vector names the right class, also of classes that training never saw.

  genseg probe runs/words --data photos/test --names 'outwear=outer wear'

Look at the gain over both rows of random weights: as they are, and with batch norms fitted to the
training images, which is all that an encoder learns from them without learning any weight.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "runs",
        type=path,
        nargs="+",
        metavar="RUN",
        help="a run directory or an encoder.safetensors",
    )
    parser.add_argument(
        "--train",
        type=source,
        metavar="FOLDER|JSON",
        help="labelled images to learn from",
    )
    parser.add_argument(
        "--test",
        type=source,
        metavar="FOLDER|JSON",
        help="those that are classified",
    )
    parser.add_argument(
        "--kind",
        choices=("knn", "linear", "fewshot"),
        default="knn",
        help="which probe (default: knn)",
    )
    parser.add_argument("-k", type=int, default=20, help="neighbours of knn (default: 20)")
    parser.add_argument(
        "--shots",
        type=_numbers,
        default=(1, 5, 10),
        metavar="N,N",
        help="of fewshot (default: 1,5,10)",
    )
    parser.add_argument("--seeds", type=int, default=5, help="draws of fewshot (default: 5)")
    parser.add_argument(
        "--limit", type=int, default=0, help="at most this many images of each (default: all)"
    )
    parser.add_argument(
        "--margin",
        type=float,
        default=0.1,
        help="around boxes, in parts of their side (default: 0.1)",
    )
    _add_reading(parser)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of zero-shot reading."""
    words = parser.add_argument_group("zero-shot reading, of runs on word vectors")
    words.add_argument(
        "--data",
        type=source,
        metavar="FOLDER|JSON",
        help="images with classes: folders, a list, or the boxes of a COCO json",
    )
    words.add_argument(
        "--words", type=path, metavar="FILE", help="word vectors (default: those of the run)"
    )
    words.add_argument(
        "--names",
        type=_name,
        nargs="+",
        default=[],
        metavar="CLASS=WORDS",
        help="what classes are called",
    )
    words.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="further names that an image may be taken for",
    )
    add_reading(parser)


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.core.check import at_least
    from genseg.workflows.evaluate.probe import probe_encoders

    at_least(0, limit=options.limit, margin=options.margin)
    at_least(1, seeds=options.seeds, k=options.k)
    if options.data is not None:
        return _read(options)
    if options.train is None or options.test is None:
        raise ValueError(
            "give --train and --test, or --data for the zero-shot reading of a run on word vectors"
        )
    if options.words or options.names or options.classes:
        raise ValueError("--words, --names and --classes are of zero-shot reading: give --data")
    print(
        probe_encoders(
            options.runs,
            train=options.train,
            test=options.test,
            kind=options.kind,
            limit=options.limit,
            k=options.k,
            shots=options.shots,
            seeds=options.seeds,
            margin=options.margin,
        )
    )
    return 0


def _read(options: argparse.Namespace) -> int:
    """Zero-shot reading."""
    from genseg.workflows.pretrain.zero_shot import zero_shot

    if options.train is not None or options.test is not None:
        raise ValueError("--data is read without --train and --test; leave these out")
    for run in options.runs:
        read = zero_shot(
            run,
            options.data,
            words=None if options.words is None else str(options.words),
            names=dict(options.names),
            classes=options.classes,
            limit=options.limit,
        )
        print(read)
    return 0


def _name(text: str) -> tuple[str, str]:
    """`class=words`, as an argument. Raises ArgumentTypeError for something else."""
    name, _, words = text.partition("=")
    if not (name and words.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form CLASS=WORDS")
    return name, words


def _numbers(text: str) -> tuple[int, ...]:
    """Whole numbers from 1 with commas between them, as an argument. Raises ArgumentTypeError for
    something else."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = (0,)
    if min(found) < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of whole numbers from 1, such as 1,5,10"
        )
    return found
