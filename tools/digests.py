"""Digests of what every recipe learns and generates: a change that should alter no number is run
before and after.

    python tools/digests.py --out before.json
    python tools/digests.py --against before.json

Each recipe of configs/ trains for some steps on 96 scenes with one thread. The digest is the
SHA-256 of its tensors' names and bytes; files are not compared, because their facts name versions.
Trained alpha models and classical proposers then generate the instances of 12 scenes. Digests
differ from machine to machine: compare on one.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.numpy import load_file

ROOT = Path(__file__).resolve().parents[1]
PROPOSERS = ("tree", "otsu", "felzenszwalb", "slic", "iem", "blobs")
# recipes that ask for classes, or for a teacher; energies ask for a run that has ended, and
# studies are made of recipes
ASK = ("byol_semantic", "supervised", "distill", "photos_alpha")
SMALL = ["data.workers=0", "threads=1", "epochs=null", "images=null"]


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the digests as JSON")
    parser.add_argument(
        "--against",
        type=Path,
        help="compare with digests written earlier; exit code 1 if one differs",
    )
    parser.add_argument("--steps", type=int, default=20, help="steps of each recipe (default: 20)")
    parser.add_argument("--only", default="", help="recipes whose path holds this text")
    args = parser.parse_args()
    before = json.loads(args.against.read_text()) if args.against else {}
    with tempfile.TemporaryDirectory() as folder:
        digests = measure(Path(folder), steps=args.steps, only=args.only, before=before)
    if args.out:
        args.out.write_text(json.dumps(digests, indent=1) + "\n")
    changed = [name for name, value in digests.items() if before.get(name, value) != value]
    print(
        f"{len(digests)} digests"
        + (f", {len(changed)} differ: {', '.join(changed)}" if before else "")
    )
    sys.exit(bool(changed))


def measure(folder: Path, *, steps: int, only: str, before: dict[str, str]) -> dict[str, str]:
    """The digest of each recipe's weights, and of the instances that alpha models and proposers
    generate."""
    digests: dict[str, str] = {}

    def note(name: str, value: str, begun: float) -> None:
        digests[name] = value
        word = "" if name not in before else " same" if before[name] == value else " DIFFERS"
        print(f"{name:42} {value[:16]}{word}  {time.perf_counter() - begun:.0f} s", flush=True)

    genseg(folder, "scenes", "scenes", "--count", "96", "--size", "128")
    genseg(folder, "scenes", "few", "--count", "12", "--size", "192", "--split", "val")
    for recipe in sorted((ROOT / "configs").rglob("*.yaml")):
        name = recipe.relative_to(ROOT / "configs").as_posix()
        if only not in name or name.startswith(("energy/", "study/")) or recipe.stem in ASK:
            continue
        begun, run = time.perf_counter(), folder / name.removesuffix(".yaml").replace("/", "-")
        genseg(folder, *words(name, recipe, run, steps))
        for file in sorted(run.glob("*.safetensors")):
            note(f"{name} {file.stem}", of_tensors(file), begun)
        if (run / "alpha.safetensors").exists():
            begun = time.perf_counter()
            note(f"{name} instances", instances(folder, str(run), "--score", "0"), begun)
    for proposer in PROPOSERS if not only else ():
        begun = time.perf_counter()
        note(f"{proposer} instances", instances(folder, proposer), begun)
    return digests


def words(name: str, recipe: Path, run: Path, steps: int) -> list[str]:
    """The command that trains a recipe for some steps, with few images in a batch."""
    kind, papers = name.split("/")[0], "imagenet" in name
    if kind == "finetune":
        data = [
            "data.train=scenes/annotations.json",
            "data.val=few/annotations.json",
            "batch_size=2",
        ]
        return [
            "finetune",
            "--config",
            str(recipe),
            *data,
            f"run={run}",
            f"steps={steps // 2}",
            *SMALL,
        ]
    whitens = "byol" in name and not papers  # wants more views than dimensions
    batch = 80 if whitens else 8 if papers or "alpha" in name else 32
    data = ["data.path=scenes/images", f"batch_size={batch}", f"run={run}", "probe.every=0 steps"]
    data.append(f"steps={3 if papers else steps}")
    more = {
        "moco": ["method.queue=64"] if papers else [],
        "swav": ["method.prototypes=30", "method.queue=0"] if papers else [],
    }
    return ["pretrain", "--config", str(recipe), *data, *more.get(recipe.stem, []), *SMALL]


def instances(folder: Path, what: str, *options: str) -> str:
    """The digest of the instances in the scenes' images."""
    out = folder / "found" / Path(what).name
    genseg(folder, "generate", what, "few/images", "--out", str(out), *options)
    found = json.loads((out / "instances.json").read_text())
    assert found["annotations"], f"{what} generates no instance: its digest would show nothing"
    return hashlib.sha256(json.dumps(found["annotations"], sort_keys=True).encode()).hexdigest()


def of_tensors(file: Path) -> str:
    """The digest of a file's tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, values in sorted(load_file(file).items()):
        digest.update(f"{name} {values.dtype} {values.shape}".encode() + values.tobytes())
    return digest.hexdigest()


def genseg(folder: Path, *arguments: str) -> None:
    """Run the command; what it says is shown where it fails."""
    threads = {
        "OMP_NUM_THREADS": "1",
        "GENSEG_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    command = [
        sys.executable,
        "-c",
        "from genseg.cli import main; raise SystemExit(main())",
        *arguments,
    ]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | threads, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(
            f"genseg {' '.join(arguments)}: exit code "
            f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        )


if __name__ == "__main__":
    main()
