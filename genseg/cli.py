"""The `genseg` command. A user's mistake ends with exit code 2 and one clear message, never a traceback."""

import argparse
import errno
import sys
from collections.abc import Sequence
from pathlib import Path

LENGTHS = ("epochs", "steps", "images")
PRETRAIN_HELP = """\
Pretrain an encoder on a folder of unlabelled images.

  genseg pretrain --config configs/pretrain/byol.yaml data.path=photos run=runs/photos epochs=50

--config names a recipe: configs/pretrain/{moco,simclr,byol,swav}.yaml for a laptop and thousands of images,
configs/pretrain/imagenet/*.yaml for the papers' settings. Every key of it can be set as key=value.
The length is one of epochs=, steps=, images= (images seen).

Killed? The same command goes on where it was. The run directory holds
  encoder.safetensors  the encoder, with torchvision's key names      metrics.jsonl  what happened, a line a step
  timm/                the same for timm.create_model("local-dir:...") config.yaml    every key, resolved
  checkpoints/         everything needed to go on                      broken.txt     images that could not be read

Several processes: torchrun --nproc_per_node 2 tools/pretrain.py --config ... (CPU or GPU), or
accelerate launch tools/pretrain.py --config ... (GPU).
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="genseg", description="Learn to segment from unlabelled images.")
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    raw = argparse.RawDescriptionHelpFormatter

    p = commands.add_parser("pretrain", help="an encoder from unlabelled images", description=PRETRAIN_HELP,
                            formatter_class=raw)  # fmt: skip
    p.add_argument("--config", type=Path, metavar="FILE", help="a recipe in YAML")
    p.add_argument("--fresh", action="store_true", help="start over in a run directory that is in use")
    p.add_argument("--dry-run", action="store_true", help="build everything, take two steps, estimate memory and time")
    p.add_argument("--print-config", action="store_true", help="print every key with its value and stop")
    p.add_argument("--keys", action="store_true", help="explain every key and stop")
    p.add_argument("overrides", nargs="*", metavar="key=value", help="any key of the config")
    p.set_defaults(act=_pretrain)

    text = "Report sizes, formats, broken files and duplicates of a folder, a list or a COCO json."
    p = commands.add_parser("scan", help="what is in a folder of images", description=text)
    p.add_argument("path", metavar="FOLDER")
    p.set_defaults(act=_scan)

    text = "Weighted k-nearest-neighbour accuracy of a run's encoder, beside random weights and raw pixels."
    p = commands.add_parser("knn", help="measure an encoder on labelled class folders", description=text)
    p.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run directory or an encoder.safetensors")
    p.add_argument("--train", required=True, metavar="FOLDER", help="class folders whose images vote")
    p.add_argument("--test", required=True, metavar="FOLDER", help="class folders whose images are classified")
    p.add_argument("--limit", type=int, default=0, help="at most so many images of each (default: all)")
    p.add_argument("-k", type=int, default=20, help="neighbours (default: 20)")
    p.set_defaults(act=_knn)

    text = "Write the encoder of a run, also of one that is not finished, for another library."
    p = commands.add_parser("export", help="write a run's encoder for another library", description=text)
    p.add_argument("run", type=Path, metavar="RUN", help="a run directory or an encoder.safetensors")
    p.add_argument(
        "--out", type=Path, required=True, metavar="PATH", help="FILE.safetensors, FILE.pth, or a folder for timm"
    )
    p.add_argument("--prefix", default="", help="goes before every key; backbone.body. for torchvision's Mask R-CNN")
    p.set_defaults(act=_export)

    text = "Compose pictures of textured objects with exact alpha maps and COCO json."
    p = commands.add_parser("scenes", help="write the embedded example images", description=text)
    p.add_argument("folder", type=Path, metavar="FOLDER")
    p.add_argument("--count", type=int, default=200)
    p.add_argument("--size", type=int, default=128)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument(
        "--split", choices=("train", "val"), default="train", help="which photographs the textures come from"
    )
    p.set_defaults(act=_scenes)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 it broke, 2 a user's mistake, 130 interrupted."""
    options, rest = parser().parse_known_args(arguments)
    if rest and (options.command != "pretrain" or any(word.startswith("-") for word in rest)):
        parser().error(f"{options.command} does not know {' '.join(rest)}; see genseg {options.command} --help")
    if options.command == "pretrain":
        options.overrides += rest  # argparse stops collecting them at the first option
    try:
        return options.act(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        return 0
    except (ValueError, FileNotFoundError, PermissionError) as error:
        if type(error).__module__.split(".")[0] not in ("genseg", "builtins"):
            raise
        print(f"genseg {options.command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        print(f"genseg {options.command}: {error}; the last checkpoint is untouched", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if type(error).__module__.split(".")[0] != "genseg":
            raise
        print(f"genseg {options.command}: {error}", file=sys.stderr)
        return 1


def _pretrain(options: argparse.Namespace) -> int:
    from genseg import config as configs
    from genseg.recipes.assemble import CHOICES, PretrainConfig
    from genseg.recipes.dry_run import dry_run
    from genseg.recipes.pretrain import pretrain

    if options.keys:
        print(configs.key_help(PretrainConfig, CHOICES))
        return 0
    overrides = options.overrides
    given = {text.split("=")[0] for text in overrides} & set(LENGTHS)
    if given:  # the length given here replaces the recipe's
        overrides = [f"{key}=null" for key in LENGTHS if key not in given] + overrides
    config = configs.load(PretrainConfig, file=options.config, overrides=overrides, choices=CHOICES)
    if options.print_config:
        print(configs.to_yaml(config), end="")
        return 0
    if options.dry_run:
        print(dry_run(config))
        return 0
    return 0 if pretrain(config, fresh=options.fresh) else 130


def _scan(options: argparse.Namespace) -> int:
    from genseg.data.scan import format_report, scan

    report = scan(options.path)
    print(format_report(report))
    return 0


def _knn(options: argparse.Namespace) -> int:
    from genseg.recipes.evaluate import evaluate_knn

    print(evaluate_knn(options.runs, train=options.train, test=options.test, limit=options.limit, k=options.k))
    return 0


def _export(options: argparse.Namespace) -> int:
    from genseg.recipes.export import export

    print(export(options.run, options.out, prefix=options.prefix))
    return 0


def _scenes(options: argparse.Namespace) -> int:
    from genseg.data.scenes import write_scenes

    write_scenes(options.folder, count=options.count, size=options.size, seed=options.seed, split=options.split)
    print(f"{options.count} scenes in {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
