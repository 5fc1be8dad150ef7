"""`genseg evaluate`: results against labels."""

import argparse

from genseg.commands import (
    evaluate_alpha,
    evaluate_detector,
    evaluate_energy,
    evaluate_zero_shot,
)

SUMMARY = "measure instances, or a fine-tuned model, against labels"
HELP = "Measure results against labels."
KINDS = {
    "alpha": evaluate_alpha,
    "detector": evaluate_detector,
    "energy": evaluate_energy,
    "zero-shot": evaluate_zero_shot,
}


def add(parser: argparse.ArgumentParser) -> None:
    """Add what can be measured."""
    kinds = parser.add_subparsers(dest="what", required=True, metavar="what")
    for name, kind in KINDS.items():
        p = kinds.add_parser(
            name,
            help=kind.SUMMARY,
            description=kind.HELP,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        kind.add(p)


def act(options: argparse.Namespace) -> int:
    """Measure what was named."""
    return KINDS[options.what].act(options)
