"""Instances of many images with Ray Data: each worker loads the model once.

    pip install 'ray[data]'
    python examples/ray_generate.py runs/alpha FOLDER --out found

FOLDER may be any path that Ray reads, such as a bucket. `found/` gets json lines: a file and its
instances, as COCO annotations.
"""

import argparse
from pathlib import Path
from typing import Any

import ray

import genseg
from genseg.data.images.decode import rgb_pixels


class Generate:
    """A worker: the model of a run, asked for the instances of an image."""

    def __init__(self, run: str) -> None:
        self.model = genseg.load(run)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        found = self.model.instances(rgb_pixels(row["bytes"]))
        return {"file": row["path"], "instances": found.coco()["annotations"]}


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Instances of many images with Ray Data.")
    parser.add_argument("run", help="a run directory of genseg, which all workers can read")
    parser.add_argument("folder", help="images")
    parser.add_argument("--out", default="found", help="json lines go here")
    # fewer than CPUs: reading and writing need one too, or Ray waits for ever
    parser.add_argument("--workers", type=int, default=1, help="fewer than CPUs")
    options = parser.parse_args()

    files = ray.data.read_binary_files(options.folder, include_paths=True)
    workers = ray.data.ActorPoolStrategy(size=options.workers)
    run = str(Path(options.run).absolute())  # workers have another current folder
    files.map(Generate, fn_constructor_args=[run], compute=workers).write_json(options.out)


if __name__ == "__main__":
    main()
