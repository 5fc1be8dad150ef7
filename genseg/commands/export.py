"""`genseg export`: a model for another library."""

import argparse

from genseg.commands.arguments import path

SUMMARY = "write an encoder or a fine-tuned model for another library"
HELP = """\
Write the encoder of a run, also of one that is not finished, for another library; or the model of a
run of genseg finetune, for torchvision, smp or ONNX.

  genseg export runs/mine --out encoder.pth
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
        help="FILE.safetensors, FILE.pth, a folder (timm; smp for a segmenter), FILE.onnx (a "
        "segmenter)",
    )
    parser.add_argument(
        "--prefix",
        default="",
        help="goes before every key of a state dict; backbone.body. for Mask R-CNN",
    )


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.workflows.export.encoder import export
    from genseg.workflows.export.model import export_model, is_finetuned

    if is_finetuned(options.run):
        if options.prefix:
            raise ValueError(
                "--prefix is for encoders; a model of genseg finetune keeps its names: leave it out"
            )
        print(export_model(options.run, options.out))
        return 0
    print(export(options.run, options.out, prefix=options.prefix))
    return 0
