"""`genseg evaluate`: results against labels."""

import argparse

from genseg.commands.arguments import add_reading
from genseg.commands.evaluations import alpha, detector, energy, representation

SUMMARY = "measure instances, fine-tuned models, energies, representations"
HELP = "Measure results, most of them against labels."
KINDS = {
    "alpha": alpha,
    "detector": detector,
    "energy": energy,
    "representation": representation,
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
        add_reading(p)


def act(options: argparse.Namespace) -> int:
    """Measure what was named."""
    return KINDS[options.what].act(options)
