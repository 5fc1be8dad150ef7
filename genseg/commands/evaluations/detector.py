"""`genseg evaluate detector`: a fine-tuned model against labels."""

import argparse

from genseg.commands.arguments import add_energy, path

SUMMARY = "a fine-tuned model against a labelled COCO json"
HELP = """\
Score a fine-tuned model on labelled images: COCO's AP and AR for boxes and masks, or mIoU for
pixels; by class.

  genseg evaluate detector runs/mine_nuclei --data val.json

For CI: --at-least 0.4 makes the exit code 3 when the main number (mask AP, box AP, mIoU) is lower.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "run", type=path, metavar="RUN", help="a run of genseg finetune, or its model.safetensors"
    )
    parser.add_argument("--data", type=path, required=True, metavar="JSON", help="labels")
    parser.add_argument(
        "--detections",
        type=int,
        metavar="N",
        help="most detections of an image, for AP (default: as the run has it)",
    )
    add_energy(parser, "what a model of places finds")
    parser.add_argument(
        "--at-least", type=float, metavar="SCORE", help="exit code 3 when the main number is lower"
    )
    parser.add_argument("--out", type=path, metavar="JSON", help="write all numbers there")
    parser.add_argument(
        "--predictions",
        type=path,
        metavar="JSON",
        help="write predictions in COCO's result format there",
    )


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.core.check import between
    from genseg.workflows.evaluate.detector import evaluate_files

    if options.at_least is not None:
        between(0, 1, at_least=options.at_least)
    result = evaluate_files(
        options.run,
        options.data,
        out=options.out,
        detections=options.detections,
        energy=options.energy,
        predictions=options.predictions,
    )
    print(result)
    return 3 if options.at_least is not None and result.scores.main < options.at_least else 0
