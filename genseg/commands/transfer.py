"""The commands that work with labels: split, finetune, compare, predict, evaluate detector."""

import argparse

from genseg.commands.arguments import path, source
from genseg.commands.recipes import recipe
from genseg.core import interrupts

LENGTHS = ("epochs", "steps", "images")
FINETUNE_HELP = """\
Fine-tune on COCO-style data: a detector, or a segmenter of pixels.

  genseg finetune --config configs/finetune/mask_rcnn.yaml data.train=train.json data.val=val.json \\
      encoder=runs/mine run=runs/mine_nuclei

--config names a recipe of configs/finetune, mask_rcnn, faster_rcnn, places, unet, fpn or deeplabv3plus, or a YAML file.
encoder= is what it starts from: random, a run of genseg pretrain, a .safetensors file, or a tag of smp or timm.
The length is one of epochs=, steps=, images= (images seen). Before anything is trained, a table says what is wrong
with the labels and what happens to it.

Killed? The same command goes on where it was. The run directory holds
  best.safetensors     the model with the best score on data.val      metrics.jsonl  what happened, line by line
  model.safetensors    the last one                                    scores.json    all numbers of the best one
  preflight.txt        what was found in the labels                    checkpoints/   everything needed to go on
  report.html          curves, and what was found beside the labels; it reads itself again while training goes on

Several processes: torchrun --nproc_per_node 2 tools/finetune.py ..., or accelerate launch tools/finetune.py ... (GPU).
"""
SPLIT_HELP = """\
Part a labelled COCO json in two: LABELS-train.json to fine-tune on, LABELS-val.json to measure it with.

  genseg split labels.json --val 0.3

Both lie beside it and use the same images. Images that belong together stay together, or val says more than is true:
those with an equal value of the key --by of the json's images (by default `group`), such as tiles of one field, one
patient or one video, and files with equal bytes. The same command again writes the same.
"""
COMPARE_HELP = """\
Measure what pretraining is worth: the same fine-tuning from several encoders, with few labels and with many.

  genseg compare --config configs/finetune/mask_rcnn.yaml --arms random,runs/mine --labels 4,10%,100% --seeds 3 \\
      --out runs/worth data.train=train.json data.val=val.json

An arm is an encoder, NAME=ENCODER, or NAME=ENCODER@CONFIG.yaml where it has another model. A seed draws which images
are labelled (evenly over their `kind`, the same for all arms) and everything random of the training, so that arms are
compared in pairs. Ends with table.txt, plot.svg, compare.json, a report, and whether the difference to the first arm is
more than noise.

A finished cell is never computed twice: give more labels, arms or seeds with the same --out, and only they are run.
"""
EVALUATE_HELP = """\
Score a fine-tuned model on labelled images: COCO's AP and AR for boxes and masks, or mIoU for pixels; by class.

  genseg evaluate detector runs/mine_nuclei --data val.json

For CI: --at-least 0.4 makes the exit code 3 when the main number (mask AP, box AP, mIoU) is lower.
"""
PREDICT_HELP = """\
Find objects, or the class of each pixel, in every image of a folder, with a run of genseg finetune.

  genseg predict runs/mine_nuclei photos --out found

DIR/predictions.json is COCO json with the categories of the training labels; of a semantic model DIR/masks/ holds a PNG
for each image. Killed? The same command goes on where it was.
"""


def add_transfer(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add split, finetune, compare and predict."""
    raw = argparse.RawDescriptionHelpFormatter
    p = commands.add_parser("split", help="a labelled json in two, for training and validation",
                            description=SPLIT_HELP, formatter_class=raw)  # fmt: skip
    p.add_argument("file", type=path, metavar="LABELS.json", help="a COCO json")
    p.add_argument("--val", type=float, default=0.3, metavar="PART", help="of the images, for val (default: 0.3)")
    p.add_argument("--by", default="group", metavar="KEY",
                   help="images with an equal value of it stay together (default: group)")  # fmt: skip
    p.add_argument("--seed", type=int, default=0, help="another draw (default: 0)")
    p.set_defaults(act=_split)

    p = commands.add_parser("finetune", help="a detector or segmenter from labelled images",
                            description=FINETUNE_HELP, formatter_class=raw)  # fmt: skip
    p.add_argument("--config", type=path, metavar="FILE", help="a recipe in YAML, or the name of one of genseg's")
    p.add_argument("--fresh", action="store_true", help="start over in a run directory that is in use")
    p.add_argument("--print-config", action="store_true", help="print every key with its value and stop")
    p.add_argument("--keys", action="store_true", help="explain every key and stop")
    p.add_argument("--check", action="store_true", help="look through the labels, say what is wrong, and stop")
    p.add_argument("overrides", nargs="*", metavar="key=value", help="any key of the config")
    p.set_defaults(act=_finetune)

    p = commands.add_parser("compare", help="what pretraining is worth, in labels", description=COMPARE_HELP,
                            formatter_class=raw)  # fmt: skip
    p.add_argument("--config", type=path, metavar="FILE", help="a recipe of genseg finetune")
    p.add_argument("--arms", required=True, metavar="LIST", help="encoders by commas; the first is compared with")
    p.add_argument("--labels", required=True, metavar="LIST", help="labelled images by commas: 4,16,10%%,100%%")
    p.add_argument("--seeds", type=int, default=3, metavar="N", help="draws of labels for each number (default: 3)")
    p.add_argument("--out", type=path, required=True, metavar="DIR", help="cells and tables go here")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="cells at a time, on one machine (default: 1)")
    p.add_argument("overrides", nargs="*", metavar="key=value", help="any key of the recipe")
    p.set_defaults(act=_compare)

    p = commands.add_parser("predict", help="what a fine-tuned model finds in images", description=PREDICT_HELP,
                            formatter_class=raw)  # fmt: skip
    p.add_argument("run", type=path, metavar="RUN", help="a run of genseg finetune, or its model.safetensors")
    p.add_argument("folder", type=source, metavar="FOLDER", help="images: a folder tree, a text list or a COCO json")
    p.add_argument("--out", type=path, required=True, metavar="DIR", help="what is found goes here")
    p.add_argument("--score", type=float, default=0.5, help="least score of an object (default: 0.5)")
    p.add_argument("--fresh", action="store_true", help="start over in a DIR that holds another result")
    p.set_defaults(act=_predict)


def add_evaluate_detector(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add detector to genseg evaluate."""
    p = kinds.add_parser("detector", help="a fine-tuned model against a labelled COCO json", description=EVALUATE_HELP,
                         formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    p.add_argument("run", type=path, metavar="RUN", help="a run of genseg finetune, or its model.safetensors")
    p.add_argument("--data", type=path, required=True, metavar="JSON", help="labels")
    p.add_argument("--detections", type=int, metavar="N", help="of an image, for AP (default: as the run has it)")
    p.add_argument("--at-least", type=float, metavar="SCORE", help="exit code 3 when the main number is lower")
    p.add_argument("--out", type=path, metavar="JSON", help="write all numbers there")
    p.add_argument("--predictions", type=path, metavar="JSON", help="write COCO's results there")
    p.set_defaults(act=_evaluate_detector)


def one_length(overrides: list[str]) -> list[str]:
    """Overrides in which a length that is given replaces the recipe's."""
    given = {text.split("=")[0] for text in overrides} & set(LENGTHS)
    return [f"{key}=null" for key in LENGTHS if key not in given] + overrides if given else overrides


def _split(options: argparse.Namespace) -> int:
    from genseg.workflows.labels.split import split_labels

    print(split_labels(options.file, part=options.val, by=options.by, seed=options.seed))
    return 0


def _finetune(options: argparse.Namespace) -> int:
    from genseg import config as configs
    from genseg.reports.report import LiveReport
    from genseg.workflows.finetune.finetune import check, finetune
    from genseg.workflows.finetune.parts import CHOICES, FinetuneConfig

    if options.keys:
        print(configs.key_help(FinetuneConfig, CHOICES))
        return 0
    standins = [*(["run=RUN"] if options.check or options.print_config else []),
                *(["data.train=TRAIN.json"] if options.print_config else [])]  # fmt: skip
    config = configs.load(
        FinetuneConfig, file=recipe(options.config, "finetune"), overrides=one_length(options.overrides),
        choices=CHOICES, standins=standins,
    )  # fmt: skip
    if options.print_config:
        print(configs.to_yaml(config), end="")
        return 0
    if options.check:
        print(check(config))
        return 0
    return 0 if finetune(config, fresh=options.fresh, watch=LiveReport) else interrupts.exit_code()


def _compare(options: argparse.Namespace) -> int:
    from genseg.reports.report import LiveReport, try_report
    from genseg.workflows.finetune.compare import compare, parse_arms

    print(
        compare(
            parse_arms(options.arms), labels=options.labels, seeds=options.seeds, out=options.out,
            file=recipe(options.config, "finetune"), overrides=one_length(options.overrides), jobs=options.jobs,
            watch=LiveReport,
        )
    )  # fmt: skip
    try_report(options.out)
    return 0


def _predict(options: argparse.Namespace) -> int:
    from genseg.reports.report import LiveReport, try_report
    from genseg.workflows.generate.predict import predict

    live = LiveReport(options.out, print)
    said = predict(
        options.run, options.folder, options.out, score=options.score, fresh=options.fresh, after=live.update
    )
    print(said)
    try_report(options.out, options.folder)
    return 0


def _evaluate_detector(options: argparse.Namespace) -> int:
    from genseg.core.check import between
    from genseg.workflows.evaluate.detector import evaluate_files

    if options.at_least is not None:
        between(0, 1, at_least=options.at_least)
    text, main = evaluate_files(
        options.run, options.data, out=options.out, detections=options.detections, predictions=options.predictions
    )
    print(text)
    return 3 if options.at_least is not None and main < options.at_least else 0
