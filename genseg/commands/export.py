"""`genseg export`: a model for another library."""

import argparse

from genseg.commands.arguments import path

SUMMARY = "write an encoder or a fine-tuned model for another library"
HELP = """\
Write the encoder of a run, also of one that is not finished, for another library; or the model of a
run of genseg finetune, for torchvision, smp or ONNX; or encoder and alpha decoder of a run as one
ONNX file.

  genseg export runs/mine --out encoder.pth
  genseg export runs/alpha --out alpha.onnx

Next, of an alpha model or places: python -m genseg.onnx alpha.onnx FOLDER --out DIR, which needs no
torch.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "run", type=path, metavar="RUN", help="a run directory or an encoder.safetensors"
    )
    parser.add_argument(
        "--out",
        type=path,
        required=True,
        metavar="PATH",
        help="FILE.safetensors, FILE.pth, a folder (timm; smp for a segmenter), FILE.onnx (an "
        "alpha model, places, a segmenter)",
    )
    parser.add_argument(
        "--prefix",
        default="",
        help="goes before every key of a state dict; backbone.body. for Mask R-CNN",
    )


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.workflows.export.export import export

    print(export(options.run, options.out, prefix=options.prefix))
    return 0
