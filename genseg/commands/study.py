"""`genseg study`: a claim, and the trainings that decide it."""

import argparse
from pathlib import Path

from genseg.commands.arguments import path
from genseg.recipes import recipe, recipes

SUMMARY = "train arms and seeds, and say what they say of a claim"
HELP = """\
Decide a claim by trainings: each arm of a study is pretrained with each seed, and its encoder
measured. The result is a table, a plot, a report, and a sentence: supported, against or open.

  genseg study byol_resilience data=cifar10 --short
  genseg study FILE.yaml data=FOLDER seeds=5 --jobs 2

FILE is a YAML file, or the name of a study that genseg brings along. FOLDER has
class folders in train/ and test/, or class folders alone, of which a tenth is held out. The studies
that genseg brings along:
{names}

DIR/cells has the encoders and numbers, DIR/STUDY study.json, table.txt, plot.svg and report.html.
A cell is known by all that decides its weights, so no finished one is made twice, by whatever study
it is asked for; killed, the same command goes on inside the cell. --dry-run says what is missing.

Several machines: each with --num-shards N and its own --shard-index 0 ... N-1, all with one DIR.
"""
HELP = HELP.format(names="\n".join(f"  {name}" for name in recipes("study")))


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="a YAML file, or the name of a study"
    )
    parser.add_argument(
        "--out",
        type=path,
        default=Path("studies"),
        metavar="DIR",
        help="cells and results go here; studies that share it share cells (default: studies)",
    )
    parser.add_argument(
        "--only", default="", metavar="ARM,ARM", help="make the cells of these arms alone"
    )
    parser.add_argument(
        "--short", action="store_true", help="the study's short form: fewer images, seeds or arms"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="cells at a time, on one machine (default: 1)",
    )
    parser.add_argument(
        "--shard-index", type=int, default=0, metavar="I", help="which shard this is, from 0"
    )
    parser.add_argument(
        "--num-shards",
        type=int,
        default=1,
        metavar="N",
        help="number of shards the cells are split into",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say which cells are missing; train nothing"
    )
    parser.add_argument("--keys", action="store_true", help="explain every key and stop")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="any key of the study")


def act(options: argparse.Namespace) -> int:
    """Run the command."""
    from genseg.config import key_help
    from genseg.reports.report import LiveReport, try_report
    from genseg.workflows.study.config import StudyConfig, load_study
    from genseg.workflows.study.study import StudyOptions, planned, run_study

    if options.keys:
        print(key_help(StudyConfig, {}))
        return 0
    file = recipe(options.file, "study")
    if file is None:
        raise ValueError(f"give a study: a YAML file, or one of {', '.join(recipes('study'))}")
    study = load_study(file, options.overrides, short=options.short)
    if options.dry_run:
        print(planned(file.stem, study, options.out))
        return 0
    only = tuple(filter(None, options.only.split(",")))
    chosen = StudyOptions(only, options.jobs, options.shard_index, options.num_shards)
    result = run_study(file.stem, study, options.out, chosen, watch=LiveReport)
    print(result)
    try_report(result.out)
    return 0
