"""The `genseg` command. A user's mistake ends with exit code 2 and one clear message, never a traceback."""

import argparse
import errno
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genseg import __version__
from genseg.commands.arguments import path, source
from genseg.commands.probe import add_probe
from genseg.commands.recipes import recipe, recipes
from genseg.commands.show import add_show
from genseg.commands.transfer import add_evaluate_detector, add_transfer, one_length
from genseg.core import interrupts
from genseg.core.words import print_any_name
from genseg.schema import MissingKey

if TYPE_CHECKING:
    from genseg.workflows.generate.finder import Wanted

MISTAKEN_PATHS = (FileExistsError, FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)
PRETRAIN_HELP = """\
Pretrain an encoder on a folder of unlabelled images.

  genseg pretrain --config simclr_alpha data.path=photos run=runs/photos

--config is a YAML file, or one of genseg's recipes by name: simclr_alpha for what fine-tuning starts from, alpha for
instance alpha maps, simclr, moco, byol, swav for an encoder alone, all for a laptop and thousands of images;
imagenet/METHOD has the papers' settings. Every key can be set as key=value.
The length is one of epochs=, steps=, images= (images seen).

Killed? The same command goes on where it was. The run directory holds
  encoder.safetensors  the encoder, with torchvision's key names      metrics.jsonl  what happened, line by line
  timm/                the same for timm.create_model("local-dir:...") config.yaml    every key, resolved
  report.html          curves, views, what was found                   env.json       versions, machine, command
  checkpoints/         everything needed to go on                      broken.txt     images that could not be read
and with the alpha task
  alpha.safetensors    encoder and alpha decoder, for genseg generate  banks/         the proposals of each round
  snapshots/           what was found in a few images as it went on

Several processes: torchrun --nproc_per_node 2 tools/pretrain.py --config ... (CPU or GPU), or
accelerate launch tools/pretrain.py --config ... (GPU).
"""
GENERATE_HELP = """\
Generate the instance alpha maps of every image of a folder with a run that has the alpha task.

  genseg generate runs/mine photos --out found

DIR/instances.json is COCO json: RLE, boxes, scores, one category. Killed? The same command goes on where it was,
also on another number of processes or shards.
Images of any size. Larger ones are shrunk as in training, to the short side alpha.side of the run (512 by default), and
what is found is enlarged again: --side 0 looks at them in their own size instead, which finds what is small there and
takes longer, --side PIXELS at another one. What is then larger than alpha.generate.tile (1024) is seen by overlapping
tiles.

Several machines: each with --num-shards N and its own --shard-index 0 ... N-1, all with one DIR; whoever comes last
puts the json together. Several processes: torchrun --nproc_per_node 2 tools/generate.py RUN FOLDER --out DIR.
"""
EVALUATE_ALPHA_HELP = """\
How well instance alpha maps fit the labels of a COCO json, which nothing of a run has seen: AP, AR, the mean of
TP / (TP + FP + FN), mBO, CorLoc and FG-ARI; by kind of image and by size. All categories are one.

  genseg evaluate alpha runs/mine --data val.json

A run first generates the instances of the json's images, into RUN/evaluated, and goes on there if it is killed: what
scores as much as the run asks for. For AP, AR and the calibration error of more, as detectors have them;
TP / (TP + FP + FN) stays as it was, mBO, FG-ARI and recall are of all that was generated, and rise:

  genseg evaluate alpha runs/mine --data val.json --score 0.05 --threshold 0.5
"""

def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="genseg", description="Learn to segment from unlabelled images.")
    top.add_argument("--version", action="version", version=f"genseg {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    raw = argparse.RawDescriptionHelpFormatter

    p = commands.add_parser("pretrain", help="an encoder from unlabelled images", description=PRETRAIN_HELP,
                            formatter_class=raw)  # fmt: skip
    p.add_argument("--config", type=path, metavar="FILE", help="a recipe in YAML, or the name of one of genseg's")
    p.add_argument("--fresh", action="store_true", help="start over in a run directory that is in use")
    p.add_argument("--dry-run", action="store_true", help="build everything, take a few steps, tell memory and time")
    p.add_argument("--print-config", action="store_true", help="print every key with its value and stop")
    p.add_argument("--keys", action="store_true", help="explain every key and stop")
    p.add_argument("overrides", nargs="*", metavar="key=value", help="any key of the config")
    p.set_defaults(act=_pretrain)

    text = "Report sizes, formats, broken files and duplicates of a folder, a list or a COCO json, whose labels too."
    p = commands.add_parser("scan", help="what is in a folder of images", description=text)
    p.add_argument("path", type=source, metavar="FOLDER", help="a folder tree, a text list or a COCO json")
    p.set_defaults(act=_scan)

    add_probe(commands)
    _add_generate(commands)
    _add_evaluate(commands)
    add_transfer(commands)
    add_show(commands)

    text = """Write the encoder of a run, also of one that is not finished, for another library; or the model of a run
    of genseg finetune, for torchvision, smp or ONNX."""
    p = commands.add_parser("export", help="write a run's encoder for another library", description=text)
    p.add_argument("run", type=path, metavar="RUN", help="a run directory or an encoder.safetensors")
    p.add_argument(
        "--out",
        type=path,
        required=True,
        metavar="PATH",
        help="FILE.safetensors, FILE.pth, a folder (timm; smp for a segmenter), FILE.onnx (a segmenter)",
    )
    p.add_argument(
        "--prefix",
        default="",
        help="goes before every key of a state dict; backbone.body. for Mask R-CNN",
    )
    p.set_defaults(act=_export)

    text = "Compose pictures of textured objects with exact alpha maps and COCO json."
    p = commands.add_parser("scenes", help="write the embedded example images", description=text)
    p.add_argument("folder", type=path, metavar="FOLDER")
    p.add_argument("--count", type=int, default=200, help="images of several objects (default: 200)")
    p.add_argument("--size", type=int, default=128, help="pixels of their sides (default: 128)")
    p.add_argument("--seed", type=int, default=0, help="another draw (default: 0)")
    p.add_argument(
        "--split", choices=("train", "val"), default="train", help="which photographs the textures come from"
    )
    p.add_argument("--alphas", action="store_true", help="also alphas/IMAGE-DEPTH.png, the true 8-bit soft alphas")
    p.set_defaults(act=_scenes)
    return top


def _add_generate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add generate."""
    raw = argparse.RawDescriptionHelpFormatter
    p = commands.add_parser("generate", help="instance alpha maps of a folder of images", description=GENERATE_HELP,
                            formatter_class=raw)  # fmt: skip
    p.add_argument(
        "run",
        type=path,
        metavar="RUN",
        help="a run directory, an alpha.safetensors, or a classical proposer: tree, felzenszwalb, ...",
    )
    p.add_argument("folder", type=source, metavar="FOLDER", help="images: a folder tree, a text list or a COCO json")
    p.add_argument("--out", type=path, required=True, metavar="DIR", help="what is found goes here")
    _add_wanted(p)
    p.add_argument("--polygons", action="store_true", help="outlines in place of RLE; they lose holes")
    p.add_argument("--alphas", action="store_true", help="also DIR/alphas/IMAGE-ID.png, 8-bit soft alpha maps")
    p.add_argument("--cutouts", action="store_true", help="also DIR/cutouts/IMAGE-ID.png, RGBA, cut to the box")
    p.add_argument("--shard-index", type=int, default=0, metavar="I", help="which shard this is, from 0")
    p.add_argument("--num-shards", type=int, default=1, metavar="N", help="into how many shards the images are split")
    p.add_argument("--fresh", action="store_true", help="start over in a DIR that holds another result")
    p.set_defaults(act=_generate)


def _add_wanted(p: argparse.ArgumentParser) -> None:
    """Add what counts as an instance."""
    p.add_argument("--score", type=float,
                   help="least score of an instance of a run, a probability (default: that of the run)")  # fmt: skip
    p.add_argument("--min-area", type=int, metavar="PIXELS",
                   help="least area of an instance, in the image's own pixels (default: that of the run; "
                   "of a proposer 20)")  # fmt: skip
    p.add_argument("--side", type=int, metavar="PIXELS",
                   help="shrink larger images to this short side; 0: never (default: as the run has; of a "
                   "proposer 0)")  # fmt: skip


def _add_evaluate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add evaluate and what it measures."""
    raw = argparse.RawDescriptionHelpFormatter
    text = "Measure results against labels."
    evaluate = commands.add_parser("evaluate", help="measure results against labels", description=text)
    kinds = evaluate.add_subparsers(dest="what", required=True, metavar="what")
    p = kinds.add_parser("alpha", help="instance alpha maps against a labelled COCO json",
                         description=EVALUATE_ALPHA_HELP, formatter_class=raw)  # fmt: skip
    p.add_argument("found", type=path, nargs="+", metavar="RUN|FILE",
                   help="a run, a classical proposer, or a json of instances; several are compared")  # fmt: skip
    p.add_argument("--data", type=path, required=True, metavar="JSON", help="COCO json with the labels")
    p.add_argument("--alphas", type=path, metavar="DIR",
                   help="soft alphas of the labels, IMAGE-N.png; those found lie in alphas/ beside FILE")  # fmt: skip
    _add_wanted(p)
    p.add_argument("--threshold", type=float, metavar="SCORE", help="least score for TP/(TP+FP+FN) (default: all)")
    p.add_argument("--out", type=path, metavar="JSON", help="write all numbers there")
    p.set_defaults(act=_evaluate_alpha)
    add_evaluate_detector(kinds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 it broke, 2 a user's mistake, and of one that was asked to end
    130 (Ctrl-C), 143 (SIGTERM) or 129 (SIGHUP)."""
    print_any_name()
    options, rest = parser().parse_known_args(arguments)
    if rest and (not hasattr(options, "overrides") or any(word.startswith("-") for word in rest)):
        keys = "; keys have no dashes, as steps=100" if hasattr(options, "overrides") else ""
        parser().error(f"{options.command} does not know {' '.join(rest)}{keys}; see genseg {options.command} --help")
    if hasattr(options, "overrides"):
        options.overrides += rest  # argparse stops collecting them at the first option
    try:
        with interrupts.raised():
            return options.act(options)
    except MissingKey as error:
        kind = "pretrain" if options.command == "pretrain" else "finetune"
        start = "" if options.config else f"; or start from a recipe by --config: {', '.join(recipes(kind))}"
        print(f"genseg {options.command}: {error}{start}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        if stopped.args:  # where the work stands
            print(*stopped.args, file=sys.stderr)
        return interrupts.exit_code()
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        return 0
    except (ValueError, *MISTAKEN_PATHS) as error:
        if type(error).__module__.split(".")[0] not in ("genseg", "builtins"):
            raise
        print(f"genseg {options.command}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            print(f"genseg {options.command}: {error}", file=sys.stderr)
            return 2
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
            raise
        print(f"genseg {options.command}: {error}; the last checkpoint is untouched", file=sys.stderr)
        return 1
    except RuntimeError as error:
        if any(word in str(error) for word in ("gloo", "NCCL")):  # the words of torch's collectives
            print(f"genseg {options.command}: the other processes of this run cannot be reached, so this one ends; "
                  "what they said stands above. The same command goes on from the last checkpoint",
                  file=sys.stderr)  # fmt: skip
            return 1
        if type(error).__module__.split(".")[0] != "genseg":
            raise
        print(f"genseg {options.command}: {error}", file=sys.stderr)
        return 1


def _pretrain(options: argparse.Namespace) -> int:
    from genseg import config as configs
    from genseg.reports.report import LiveReport
    from genseg.workflows.pretrain.dry_run import dry_run
    from genseg.workflows.pretrain.parts import CHOICES, PretrainConfig
    from genseg.workflows.pretrain.pretrain import pretrain

    if options.keys:
        print(configs.key_help(PretrainConfig, CHOICES))
        return 0
    config = configs.load(
        PretrainConfig, file=recipe(options.config, "pretrain"), overrides=one_length(options.overrides),
        choices=CHOICES, standins=["run=RUN", "data.path=FOLDER"] if options.print_config else [],
    )  # fmt: skip
    if options.print_config:
        print(configs.to_yaml(config), end="")
        return 0
    if options.dry_run:
        if text := dry_run(config, fresh=options.fresh):
            print(text)
        return 0
    return 0 if pretrain(config, fresh=options.fresh, watch=LiveReport) else interrupts.exit_code()


def _scan(options: argparse.Namespace) -> int:
    from genseg.workflows.labels.scan import format_report, scan

    print(format_report(scan(options.path)))
    return 0


def _wanted(options: argparse.Namespace) -> "Wanted":
    from genseg.workflows.generate.finder import Wanted

    return Wanted(score=options.score, min_area=options.min_area, side=options.side)


def _generate(options: argparse.Namespace) -> int:
    from genseg.reports.report import LiveReport, try_report
    from genseg.workflows.generate.generate import RESULT, GenerateOptions, generate_folder

    chosen = GenerateOptions(
        polygons=options.polygons, alphas=options.alphas, cutouts=options.cutouts, wanted=_wanted(options),
        shard=options.shard_index, shards=options.num_shards, fresh=options.fresh,
    )  # fmt: skip
    live = LiveReport(options.out, print)
    if text := generate_folder(options.run, options.folder, options.out, chosen, after=live.update):
        print(text)
        if (options.out / RESULT).exists():
            try_report(options.out, options.folder)
    return 0


def _evaluate_alpha(options: argparse.Namespace) -> int:
    from genseg.core.check import between
    from genseg.runs.folder import check_out
    from genseg.workflows.evaluate.alpha import evaluate_alpha, read_truth
    from genseg.workflows.generate.finder import Wanted, is_proposer
    from genseg.workflows.generate.generate import generated

    alphas = options.alphas is not None  # all that may be wrong is told before hours of work
    if alphas and not options.alphas.is_dir():
        raise ValueError(f"--alphas {options.alphas} is no folder; genseg scenes --alphas writes one")
    if twice := [found for found in options.found if options.found.count(found) > 1]:
        raise ValueError(f"{twice[0]} is given twice; give it once")
    wanted = _wanted(options)
    if options.threshold is not None:
        between(0, 1, threshold=options.threshold)
    if options.out:
        check_out(options.out)
    if options.score is not None and (fixed := [str(f) for f in options.found if is_proposer(f)]):
        print(f"note: --score is for runs; {', '.join(fixed)} has a score of its own for each region, and keeps all")
    if wanted != Wanted() and (jsons := [str(f) for f in options.found if f.suffix == ".json"]):
        print(f"note: --score, --min-area and --side are for runs and proposers; {', '.join(jsons)} is taken as it is")
    read_truth(options.data, options.alphas)
    with tempfile.TemporaryDirectory() as scratch:
        files = [generated(path, options.data, Path(scratch), alphas=alphas, wanted=wanted) for path in options.found]
        print(
            evaluate_alpha(
                files, options.data, names=[str(found) for found in options.found], alphas=options.alphas,
                out=options.out, threshold=options.threshold,
            )
        )  # fmt: skip
    return 0


def _export(options: argparse.Namespace) -> int:
    from genseg.workflows.export.encoder import export
    from genseg.workflows.export.model import export_model, is_finetuned

    if is_finetuned(options.run):
        if options.prefix:
            raise ValueError("--prefix is for encoders; what genseg finetune has made keeps its names: leave it out")
        print(export_model(options.run, options.out))
        return 0
    print(export(options.run, options.out, prefix=options.prefix))
    return 0


def _scenes(options: argparse.Namespace) -> int:
    from genseg.data.scenes.scenes import write_scenes

    write_scenes(
        options.folder, count=options.count, size=options.size, seed=options.seed, split=options.split,
        alphas=options.alphas,
    )  # fmt: skip
    print(f"{options.count} scenes in {options.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
