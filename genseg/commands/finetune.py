"""`genseg finetune`: a detector or segmenter from labelled images."""

import argparse

from genseg.commands.arguments import path
from genseg.core import interrupts
from genseg.recipes import one_length, recipe

SUMMARY = "train a detector or segmenter from labelled images"
HELP = """\
Fine-tune on COCO-style data: a detector, or a segmenter of pixels.

  genseg finetune --config mask_rcnn data.train=train.json data.val=val.json \\
      encoder=runs/mine run=runs/mine_nuclei

--config is a recipe by name (mask_rcnn, faster_rcnn, places, unet, fpn or deeplabv3plus) or a YAML
file. encoder= is what it starts from: random, a run of genseg pretrain, a .safetensors file, or a
tag of smp or timm. The length is one of epochs=, steps=, images= (images seen). Before training
starts, a table says what is wrong with the labels and what happens to it.

Killed? The same command goes on where it was. The run directory holds
  best.safetensors     the model with the best score on data.val
  model.safetensors    the last one
  scores.json          all numbers of the best one
  preflight.txt        what is wrong with the labels
  report.html          curves, and predictions beside the labels; it reloads itself during training
  metrics.jsonl        what happened, line by line
  checkpoints/         everything needed to go on

Several processes: torchrun --nproc_per_node 2 tools/finetune.py ..., or
accelerate launch tools/finetune.py ... (GPU).

Next: genseg predict RUN FOLDER, genseg evaluate detector RUN --data LABELS.json, genseg compare.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--config", type=path, metavar="FILE", help="a YAML file, or the name of a recipe"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="start over in a run directory that is in use"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print every key with its value and stop"
    )
    parser.add_argument("--keys", action="store_true", help="explain every key and stop")
    parser.add_argument(
        "--check", action="store_true", help="look through the labels, say what is wrong, and stop"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any key of the config")


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg import config as configs
    from genseg.reports.report import LiveReport
    from genseg.workflows.finetune.config import CHOICES, FinetuneConfig
    from genseg.workflows.finetune.finetune import check, finetune

    if options.keys:
        print(configs.key_help(FinetuneConfig, CHOICES))
        return 0
    standins = [
        *(["run=RUN"] if options.check or options.print_config else []),
        *(["data.train=TRAIN.json"] if options.print_config else []),
    ]
    config = configs.load(
        FinetuneConfig,
        file=recipe(options.config, "finetune"),
        overrides=one_length(options.overrides),
        choices=CHOICES,
        standins=standins,
    )
    if options.print_config:
        print(configs.to_yaml(config), end="")
        return 0
    if options.check:
        print(check(config))
        return 0
    result = finetune(config, fresh=options.fresh, watch=LiveReport)
    return 0 if result.complete else interrupts.exit_code()
