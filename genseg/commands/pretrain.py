"""`genseg pretrain`: an encoder, and the alpha task, from unlabelled images."""

import argparse
from pathlib import Path

from genseg.commands.arguments import path
from genseg.core import interrupts
from genseg.core.paths import name_of
from genseg.recipes import one_length, recipe

SUMMARY = "learn an encoder from unlabelled images"
HELP = """\
Pretrain an encoder on a folder of unlabelled images.

  genseg pretrain photos                    the recipe alpha, in runs/photos
  genseg pretrain --config simclr_alpha data.path=photos run=runs/mine

--config is a YAML file, or one of genseg's recipes by name: simclr_alpha for what fine-tuning
starts from, alpha for instance alpha maps, simclr, moco, byol, swav, simmim for an encoder alone,
distill for one from a frozen teacher (method.teacher=FILE), all for a laptop and thousands of
images; imagenet/METHOD has the papers' settings. Every key can be set as key=value. The length is
one of epochs=, steps=, images= (images seen).

Killed? The same command goes on where it was. The run directory holds
  encoder.safetensors  the encoder, with torchvision's key names
  timm/                the same for timm.create_model("local-dir:...")
  report.html          curves, views, instances
  metrics.jsonl        what happened, line by line
  config.yaml          every key, resolved
  env.json             versions, machine, command
  broken.txt           images that could not be read
  checkpoints/         everything needed to go on
  predicted/           a few images, masked, and what is predicted of them (simmim)
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
    parser.add_argument(
        "overrides", nargs="*", metavar="FOLDER|key=value", help="images, and any key of the config"
    )


def folder_first(given: Path | None, words: list[str]) -> tuple[Path | None, list[str]]:
    """The recipe and the keys: a word without = is the folder of images. Where nothing else is
    said, its recipe is alpha, and its run is named after it."""
    folders = [word for word in words if "=" not in word]
    if len(folders) != 1:
        return given, words  # the config says which word is no key
    keys = [word for word in words if "=" in word]
    named = {key.partition("=")[0] for key in keys}
    more = [f"data.path={folders[0]}"]
    if "run" not in named:
        more.append(f"run=runs/{name_of(folders[0])}")
    return given or Path("alpha"), [*more, *keys]


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
    file, overrides = folder_first(options.config, options.overrides)
    config = configs.load(
        PretrainConfig,
        file=recipe(file, "pretrain"),
        overrides=one_length(overrides),
        choices=CHOICES,
        standins=["run=RUN", "data.path=FOLDER"] if options.print_config else [],
    )
    if options.print_config:
        print(configs.to_yaml(config), end="")
        return 0
    if options.dry_run:
        if (found := dry_run(config, fresh=options.fresh)) is not None:  # the first process
            print(found)
        return 0
    result = pretrain(config, fresh=options.fresh, watch=LiveReport)
    return 0 if result.complete else interrupts.exit_code()
