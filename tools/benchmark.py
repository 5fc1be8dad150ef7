"""How fast genseg is, measured beside its own floor and beside a peer. On an idle machine:

  python tools/benchmark.py pretrain --data photos --out docs/results/pretrain_speed.json
  precision=bf16

`pretrain` trains each method for some steps of its recipe, over and over in turn
* with genseg, end to end: reading, views, training, logs;
* with genseg on one ready batch, so without reading and views: the floor;
* with lightly's own blocks in its documented style (tools/peers, in the environment of `make
  peers`), on the same images, batch, sizes, number of views, stem, queue, prototypes and optimiser,
  with its own defaults for the rest.

Another target of BYOL beside the paper's, by their recipes:

  python tools/benchmark.py pretrain --methods byol,byol_random,byol_middle --no-peer --data photos

The same for the alpha task, where the floor is without composition too:

  python tools/benchmark.py pretrain --methods alpha --no-peer --batch 8 --data photos

  python tools/benchmark.py generate runs/alpha --data photos --size 256

`generate` gives the instances of images of one size: with a run, with the same run exported to
ONNX, in fp32, and with the classical tree beside it.

  python tools/benchmark.py finetune --train train.json --val val.json

`finetune` trains Mask R-CNN with genseg and with torchvision's reference loop, the same model and
crops, in turn; and scores as many detections as there are labels with genseg and with pycocotools
as it comes.

Each measurement of `pretrain` is a process of its own. Speeds are medians over the rounds. Memory
is the peak of a process and its workers together, shared pages counted once.
"""

import argparse
import dataclasses
import itertools
import json
import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from benchmark_finetune import finetune
from benchmark_generate import generate
from benchmark_tables import STAGES, machine, memory, speed_table, stage_table, summarised, table
from torch import Tensor

from genseg import config as configs
from genseg.train.loop import Timing, train
from genseg.workflows.pretrain.config import CHOICES, PretrainConfig
from genseg.workflows.pretrain.parts import assemble
from genseg.workflows.pretrain.session import PretrainSession

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / "tools" / "peers" / "lightly_pretrain.py"
PEER_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
METHODS = tuple(name for name in CHOICES["method"] if name not in ("none", "supervised"))
WHO = ("genseg", "floor", "lightly")
# not counted: allocation, oneDNN's choices, the workers' start; as many as the peer's
WARMUP_STEPS = 3
SAMPLE_SECONDS = 0.5  # between two looks at the memory


def pretrain(o: argparse.Namespace) -> None:
    """Measure, write the JSON file after each method, print two tables."""
    if not PEER_PYTHON.exists() and not o.no_peer:
        raise SystemExit(f"benchmark: {PEER_PYTHON} is missing: run make peers, or give --no-peer")
    rounds: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for method in o.methods.split(","):
        commands = {who: own_command(method, o, who, o.steps) for who in ("genseg", "floor")}
        if not o.no_peer:
            commands["lightly"] = peer_command(recipe(method, o), o)
        measured(own_command(method, o, "genseg", 1))  # fills the cache of decoded images
        rounds[method] = {who: [] for who in commands}
        for number, (who, command) in itertools.product(range(o.rounds), commands.items()):
            found = measured(command)
            rounds[method][who].append(found)
            said = (
                f"{method} {who} {number + 1}/{o.rounds}: {found['images_per_second']:.1f} images/s"
            )
            print(said, file=sys.stderr, flush=True)
        summary = {
            method: {who: summarised(rs) for who, rs in by.items()} for method, by in rounds.items()
        }
        if o.out:
            recipes = {method: configs.to_yaml(recipe(method, o)).splitlines() for method in rounds}
            facts = {
                "command": ["tools/benchmark.py", *sys.argv[1:]],
                "machine": machine(),
                "recipes": recipes,
            }
            text = json.dumps(facts | {"summary": summary, "rounds": rounds}, indent=1)
            o.out.parent.mkdir(parents=True, exist_ok=True)
            # no path of this machine
            o.out.write_text(text.replace(o.data, Path(o.data).name) + "\n")
    print(speed_table(summary), stage_table(summary), sep="\n\n")


def recipe(method: str, o: argparse.Namespace, run: str = "unused") -> PretrainConfig:
    """The small recipe of a method at the benchmark's batch size. Raises ConfigError for a wrong
    key."""
    given = [f"data.path={o.data}", f"run={run}", f"batch_size={o.batch}", "probe.every=0 steps"]
    file = ROOT / "configs" / "pretrain" / f"{method}.yaml"
    return configs.load(
        PretrainConfig, file=file, overrides=[*given, *o.overrides], choices=CHOICES
    )


def own_command(method: str, o: argparse.Namespace, who: str, steps: int) -> list[str]:
    """This script, for one measurement of genseg or of its floor."""
    given = {"data": o.data, "batch": o.batch, "steps": steps, "methods": method, "only": who}
    script = str(Path(__file__).resolve())
    return [
        sys.executable,
        script,
        "pretrain",
        *(f"--{k}={v}" for k, v in given.items()),
        *o.overrides,
    ]


def peer_command(config: PretrainConfig, o: argparse.Namespace) -> list[str]:
    """The same amount of work for lightly. Raises SystemExit where it has no transform for the
    views."""
    method = config.method
    sizes = sorted({v.size for v in config.views.values() if v.count}, reverse=True)
    if len(sizes) > 1 and (method.name != "swav" or sizes[1:] != [sizes[0] // 2]):
        raise SystemExit(
            f"benchmark: lightly has no {method.name} with views of {sizes} px: give --no-peer"
        )
    given = {
        "method": method.name,
        "data": config.data.path,
        "size": sizes[0],
        "stem": config.encoder.stem,
        "batch": config.batch_size,
        "workers": o.peer_workers,
        "threads": config.threads,
        "speed": o.steps,
        "optimizer": config.optimizer.name,
        "lr": config.optimizer.lr,
    }
    if method.name in ("moco", "swav"):
        given["queue"] = method.queue
    if method.name == "swav":
        small = sum(v.count for v in config.views.values() if v.size < sizes[0])
        given |= {"prototypes": method.prototypes, "small-crops": small}
    flags = [f"--{key}={value}" for key, value in given.items()]
    if method.name == "moco":
        flags.append("--symmetric" if method.symmetric else "--no-symmetric")
    return [str(PEER_PYTHON), str(PEER), *flags, *shlex.split(o.peer)]


def measured(command: Sequence[str]) -> dict[str, Any]:
    """Run a command whose last line is a JSON object; returns that with the peak memory of its
    processes."""
    peak = 0
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        child = psutil.Popen(command, stdout=out, stderr=errors, text=True)
        while child.poll() is None:
            peak = max(peak, memory(child))
            time.sleep(SAMPLE_SECONDS)
        for file in (out, errors):
            file.seek(0)
        if child.returncode:
            said = errors.read()
            raise SystemExit(
                f"benchmark: {shlex.join(command)} ended with {child.returncode}\n{said}"
            )
        found: dict[str, Any] = json.loads(out.read().splitlines()[-1])
    return found | {"peak_mib": round(peak / 2**20)}


class Stopwatch:
    """The hooks of a session, timed stage by stage. `ready`: what every step trains on, if it is
    given."""

    finished = False

    def __init__(self, session: PretrainSession, ready: tuple[int, object] | None) -> None:
        self.session, self.ready = session, ready
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.mark = time.perf_counter()
        session.parts.wrapped.register_forward_hook(lambda *_: self.lap("forward"))

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] += now - self.mark
        self.mark = now

    def inputs(self, batch: Any) -> tuple[int, object]:
        self.lap("wait")
        found = self.ready or self.session.inputs(batch)
        self.lap("prepare")
        return found

    def learning_rate(self, step: int) -> float:
        return self.session.learning_rate(step)

    def begin_step(self) -> None:
        self.session.begin_step()

    def before_step(self, progress: float) -> None:
        self.lap("backward")
        self.session.before_step(progress)

    def after_step(self, progress: float) -> None:
        self.session.after_step(progress)

    def measured(
        self, step: int, outputs: dict[str, Tensor], timing: Timing, grad_norm: float
    ) -> None:
        if self.ready is None:
            self.session.measured(step, outputs, timing, grad_norm)
        self.lap("optimizer")
        if step == WARMUP_STEPS:
            self.seconds = dict.fromkeys(STAGES, 0.0)


def measure(method: str, o: argparse.Namespace) -> dict[str, Any]:
    """One measurement of genseg (or of its floor) in this process."""
    with tempfile.TemporaryDirectory() as run:
        config = recipe(method, o, run)
        if o.only == "floor":
            config = dataclasses.replace(config, data=dataclasses.replace(config.data, workers=0))
        parts = assemble(config)
        session = PretrainSession(parts, Path(run), None)
        session.save_every = 0
        ready = session.inputs(next(session.batches())) if o.only == "floor" else None
        batches = session.batches() if ready is None else itertools.repeat(None)
        watch = Stopwatch(session, ready)
        short = dataclasses.replace(parts.plan, total=WARMUP_STEPS + o.steps)
        train(
            parts.wrapped,
            parts.optimizer,
            batches,
            parts.accelerator,
            watch,
            plan=short,
            start=0,
            passes=config.accumulate,
            clip=config.optimizer.clip,
            seed=config.seed,
        )
    seconds = sum(watch.seconds.values())
    return {
        "method": method,
        "images_per_second": o.steps * config.batch_size / seconds,
        "seconds": seconds,
        "steps": o.steps,
        "stages": {name: spent / o.steps for name, spent in watch.seconds.items()},
        "peak_rss_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "precision": parts.accelerator.mixed_precision,
    }


def main() -> None:
    top = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True)
    p = commands.add_parser(
        "pretrain", help="images/s of the contrastive methods, or of the alpha task"
    )
    add = p.add_argument
    add("--data", required=True, metavar="FOLDER", help="images")
    add(
        "--methods",
        default=",".join(METHODS),
        help="or other recipes, such as byol_random; alpha with --no-peer --batch 8 (default: "
        "%(default)s)",
    )
    add("--batch", type=int, default=128)
    add(
        "--steps",
        type=int,
        default=15,
        help=f"of a measurement, after {WARMUP_STEPS} uncounted ones",
    )
    add("--rounds", type=int, default=3)
    add(
        "--peer", default="", metavar="OPTIONS", help='more for the peer: --peer="--precision bf16"'
    )
    add("--peer-workers", type=int, default=2)
    add("--no-peer", action="store_true")
    add("--out", type=Path, metavar="FILE.json")
    # one measurement, in this process
    add("--only", choices=("genseg", "floor"), help=argparse.SUPPRESS)
    add(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="any key of genseg's recipe: precision=bf16",
    )
    p = commands.add_parser("generate", help="images/s of instance alpha maps")
    p.add_argument("run", type=Path, metavar="RUN", help="a run directory or an alpha.safetensors")
    p.add_argument(
        "--data", required=True, metavar="FOLDER", help="images; the middle of each is taken"
    )
    p.add_argument("--size", type=int, default=256)
    p.add_argument("--count", type=int, default=60, help="images (default: %(default)s)")
    p.add_argument("--rounds", type=int, default=3)
    p.set_defaults(only=None)
    p = commands.add_parser(
        "finetune", help="images/s of Mask R-CNN beside torchvision's reference loop"
    )
    p.add_argument("--train", required=True, metavar="JSON", help="labels to train on")
    p.add_argument("--val", required=True, metavar="JSON", help="labels to score")
    p.add_argument(
        "--steps",
        type=int,
        default=10,
        help=f"of a measurement, after {WARMUP_STEPS} uncounted ones",
    )
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="any key of configs/finetune/mask_rcnn.yaml",
    )
    p.set_defaults(only=None)
    o = top.parse_args()
    try:
        if o.command == "generate":
            generate(o, table, machine())
        elif o.command == "finetune":
            finetune(o, table, machine())
        elif o.only:
            print(json.dumps(measure(o.methods, o)))
        else:
            pretrain(o)
    except (configs.ConfigError, ValueError) as error:
        raise SystemExit(f"benchmark: {error}") from None


if __name__ == "__main__":
    main()
