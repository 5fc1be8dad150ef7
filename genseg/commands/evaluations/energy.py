"""`genseg evaluate energy`: energies against labels."""

import argparse

from genseg.commands.arguments import path

SUMMARY = "energies of alpha maps against a labelled COCO json"
HELP = """\
Measure what runs of genseg energy are worth on labels that none has seen: AUROC of the labels' maps
against corrupted ones by kind of corruption, reconstruction, whether the code copies or is ignored,
and how well they rank the decoder's own instances (Spearman's rank correlation with the overlap).

  genseg evaluate energy runs/denoising runs/critic --alpha runs/nuclei --data val.json

What ranking is worth in AP: genseg evaluate alpha RUN --energy DIR --score 0.05 --data JSON.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "energies", type=path, nargs="+", metavar="DIR", help="runs of genseg energy"
    )
    parser.add_argument(
        "--alpha",
        type=path,
        required=True,
        metavar="RUN",
        help="the run whose alpha decoder they are for",
    )
    parser.add_argument(
        "--data", type=path, required=True, metavar="JSON", help="COCO json with the labels"
    )
    parser.add_argument(
        "--images", type=int, default=0, metavar="N", help="so many images, drawn (default: all)"
    )
    parser.add_argument(
        "--overlap",
        type=float,
        nargs=2,
        default=(0.3, 0.6),
        metavar=("LEAST", "MOST"),
        help="overlap of corrupted maps with their true ones (default: 0.3 0.6)",
    )
    parser.add_argument("--out", type=path, metavar="JSON", help="write all numbers there")


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.workflows.energy.evaluate import evaluate_energies

    low, high = options.overlap
    print(
        evaluate_energies(
            options.energies,
            options.alpha,
            options.data,
            images=options.images,
            overlap=(low, high),
            out=options.out,
        )
    )
    return 0
