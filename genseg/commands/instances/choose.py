"""`genseg choose`: which images to label next."""

import argparse

from genseg.commands.arguments import add_reading, path

SUMMARY = "which images to label next"
HELP = """\
Write a list of the images to label next, the most wanted first.

  genseg choose runs/mine photos --count 16 --out next.txt
  genseg choose runs/mine photos --count 16 --labelled labels.json --out next.txt

--by typical: the most typical image of each of as many clusters as are wanted, by the vectors of
the run's encoder (Hacohen et al., 2022). k-center: that no image is far from a chosen one (Sener
and Savarese, 2018), which takes odd images first. uncertainty: those in which two looks of the
alpha model, the second one mirrored and enlarged, agree least. both: k-center among the four times
as many that are most uncertain. random: a draw by --seed, to measure the others against.

No way was better than random draws on all of three sets (docs/results/fields.md): typical on two of
them, not beyond doubt, k-center on one, and uncertainty on none. On your images compare says what a
list is worth:
  genseg compare --arms random=runs/mine,chosen=runs/mine@next.txt --labels 16 --out runs/chosen \\
      data.train=train.json data.val=val.json
where the images of next.txt are among those of train.json.

Next: genseg generate RUN next.txt, then genseg convert for your labelling tool.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("run", type=path, metavar="RUN", help="a run of genseg pretrain")
    parser.add_argument(
        "data", type=path, metavar="FOLDER", help="images: a folder tree, a list or a COCO json"
    )
    parser.add_argument("--count", type=int, required=True, metavar="N", help="how many images")
    parser.add_argument(
        "--out", type=path, required=True, metavar="FILE.txt", help="the list goes here"
    )
    parser.add_argument(
        "--by",
        choices=("typical", "k-center", "uncertainty", "both", "random"),
        default="typical",
        help="how they are chosen (default: typical)",
    )
    parser.add_argument(
        "--labelled",
        type=path,
        metavar="FILE",
        help="a list or a COCO json of images that have labels already",
    )
    parser.add_argument("--seed", type=int, default=0, help="of --by random (default: 0)")
    add_reading(parser)


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.workflows.vectors.choose import choose

    print(
        choose(
            options.run,
            options.data,
            options.out,
            count=options.count,
            by=options.by,
            labelled=options.labelled,
            seed=options.seed,
        )
    )
    return 0
