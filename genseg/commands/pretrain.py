"""`genseg pretrain`: an encoder, and the alpha task, from unlabelled images."""

import argparse

from genseg.commands.arguments import path
from genseg.core import interrupts
from genseg.recipes import one_length, recipe

SUMMARY = "learn an encoder from unlabelled images"
HELP = """\
Pretrain an encoder on a folder of unlabelled images.

  genseg pretrain --config simclr_alpha data.path=photos run=runs/photos

--config is a YAML file, or one of genseg's recipes by name: simclr_alpha for what fine-tuning
starts from, alpha for instance alpha maps, simclr, moco, byol, swav for an encoder alone, all for a
laptop and thousands of images; imagenet/METHOD has the papers' settings. Every key can be set as
key=value. The length is one of epochs=, steps=, images= (images seen).

Killed? The same command goes on where it was. The run directory holds
  encoder.safetensors  the encoder, with torchvision's key names
  timm/                the same for timm.create_model("local-dir:...")
  report.html          curves, views, instances
  metrics.jsonl        what happened, line by line
  config.yaml          every key, resolved
  env.json             versions, machine, command
  broken.txt           images that could not be read
  checkpoints/         everything needed to go on
and with the alpha task
  alpha.safetensors    encoder and alpha decoder, for genseg generate
  banks/               the proposals of each round
  snapshots/           instances of a few images during training

Several processes: torchrun --nproc_per_node 2 tools/pretrain.py --config ... (CPU or GPU), or
accelerate launch tools/pretrain.py --config ... (GPU).

Next: genseg generate RUN FOLDER (alpha task), genseg finetune encoder=RUN, genseg probe RUN.
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
        "--dry-run",
        action="store_true",
        help="build everything, take a few steps, tell memory and time",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print every key with its value and stop"
    )
    parser.add_argument("--keys", action="store_true", help="explain every key and stop")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any key of the config")


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg import config as configs
    from genseg.reports.report import LiveReport
    from genseg.workflows.pretrain.config import CHOICES, PretrainConfig
    from genseg.workflows.pretrain.dry_run import dry_run
    from genseg.workflows.pretrain.pretrain import pretrain

    if options.keys:
        print(configs.key_help(PretrainConfig, CHOICES))
        return 0
    config = configs.load(
        PretrainConfig,
        file=recipe(options.config, "pretrain"),
        overrides=one_length(options.overrides),
        choices=CHOICES,
        standins=["run=RUN", "data.path=FOLDER"] if options.print_config else [],
    )
    if options.print_config:
        print(configs.to_yaml(config), end="")
        return 0
    if options.dry_run:
        if text := dry_run(config, fresh=options.fresh):
            print(text)
        return 0
    result = pretrain(config, fresh=options.fresh, watch=LiveReport)
    return 0 if result.complete else interrupts.exit_code()
