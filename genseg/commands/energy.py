"""`genseg energy`: what tells an instance's alpha map from another one."""

import argparse
from pathlib import Path

from genseg.commands.arguments import path
from genseg.core import interrupts
from genseg.core.paths import name_of
from genseg.recipes import recipe, recipes

SUMMARY = "shape an energy that ranks and mends the alpha maps of a run"
HELP = """\
Shape an energy E(image, alpha map) for the alpha decoder of a run: low for maps that are an
instance, high for others. Encoder and decoder stay as they are; no label is used, but of a run of
genseg finetune with places those that it was trained on.

  genseg energy runs/nuclei                         the recipe critic, in runs/nuclei-critic
  genseg energy runs/nuclei --shape denoising --minutes 3 --out runs/denoising

--shape is one of the recipes of configs/energy by name:
{names}
Every key can be set as key=value; --keys explains them. Composites of the run's images are seen by
its encoder once, so a run takes minutes.

Killed? The same command goes on where it was. The run directory holds
  energy.safetensors   the energy, and how it ranks
  report.html          curves, maps with their energies
  metrics.jsonl        what happened, line by line
  config.yaml          every key, resolved
  checkpoints/         everything needed to go on

Several processes: torchrun --nproc_per_node 2 tools/energy.py RUN ...

Next: genseg generate RUN FOLDER --energy DIR, genseg evaluate alpha RUN --energy DIR; for a
fine-tuned run genseg predict and genseg evaluate detector.
"""
HELP = HELP.format(names="\n".join(f"  {name}" for name in recipes("energy")))
DEFAULT = "critic"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--shape",
        type=path,
        metavar="NAME|FILE",
        default=Path(DEFAULT),
        help=f"a recipe of configs/energy, or a YAML file (default: {DEFAULT})",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, metavar="N", help="updates (default: the recipe's)")
    length.add_argument("--minutes", type=float, metavar="M", help="the same as a time, about")
    parser.add_argument(
        "--out", metavar="DIR", help="the run directory of the energy (default: RUN-NAME)"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="start over in a run directory that is in use"
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print every key with its value and stop"
    )
    parser.add_argument("--keys", action="store_true", help="explain every key and stop")
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="RUN|key=value",
        help="a run with the alpha task, or of genseg finetune with places; and any key of the "
        "config",
    )


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg import config as configs
    from genseg.reports.report import LiveReport
    from genseg.workflows.energy.config import CHOICES, EnergyConfig
    from genseg.workflows.energy.energy import shape_energy

    if options.keys:
        print(configs.key_help(EnergyConfig, CHOICES))
        return 0
    config = configs.load(
        EnergyConfig,
        file=recipe(options.shape, "energy"),
        overrides=given(options),
        choices=CHOICES,
        standins=["run=DIR", "alpha=RUN"] if options.print_config else [],
    )
    if options.print_config:
        print(configs.to_yaml(config), end="")
        return 0
    result = shape_energy(config, fresh=options.fresh, watch=LiveReport)
    return 0 if result.complete else interrupts.exit_code()


def given(options: argparse.Namespace) -> list[str]:
    """The keys of the command line; a word without = is the run of the alpha decoder."""
    runs = [word for word in options.overrides if "=" not in word]
    keys = [word for word in options.overrides if "=" in word]
    if len(runs) != 1:
        return [*options.overrides]  # the config says which word is no key
    named = {key.partition("=")[0] for key in keys}
    more = [f"alpha={runs[0]}"]
    if options.out is not None:
        more.append(f"run={options.out}")
    elif "run" not in named:
        root = Path(runs[0])
        root = root.parent if root.suffix == ".safetensors" else root
        more.append(f"run={root}-{name_of(str(options.shape)).removesuffix('.yaml')}")
    if options.steps is not None:
        more.append(f"steps={options.steps}")
    if options.minutes is not None:
        more.append(f"minutes={options.minutes}")
    return [*more, *keys]
