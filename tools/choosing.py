"""Whether images that genseg choose wants labelled are worth more than a draw: the same fine-tuning
with each list, on one set. Cells that are there stay.

    python tools/choosing.py runs/alpha train.json val.json --out runs/choosing

`random` is the draw of genseg compare, which is even over kinds where the labels name them: a
stronger baseline than a plain draw. Lists are the same for every seed, so their spread is that of
the training alone, and that of `random` has the draws in it, too.
"""

import argparse
import time
from pathlib import Path
from typing import get_args

import yaml

import genseg
from genseg.workflows.vectors.choose import By


def main() -> None:
    """Choose, compare, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run with the alpha task")
    parser.add_argument("train", type=Path, metavar="TRAIN.json", help="images to choose among")
    parser.add_argument("val", type=Path, metavar="VAL.json", help="images to score on")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="lists and cells")
    parser.add_argument("--labels", type=int, default=8, help="images to label (default: 8)")
    parser.add_argument("--seeds", type=int, default=3, help="fine-tunings an arm (default: 3)")
    parser.add_argument("--images", type=int, default=320, help="of a fine-tuning (default: 320)")
    parser.add_argument("--config", default="places", help="recipe of finetune (default: places)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="keys of genseg finetune")
    options = parser.parse_intermixed_args()
    start = time.perf_counter()
    arms = {"random": str(options.run)}
    for by in (by for by in get_args(By) if by != "random"):
        file = options.out / f"{by}.txt"
        if not file.is_file():
            print(genseg.choose(options.run, options.train, file, count=options.labels, by=by))
        arms[by] = f"{options.run}@{file}"
    print(f"chosen in {time.perf_counter() - start:.0f} seconds")
    words = (word.partition("=")[::2] for word in options.overrides)
    keys = {key: yaml.safe_load(value) for key, value in words}
    print(
        genseg.compare(
            arms,
            labels=[options.labels],
            seeds=options.seeds,
            out=options.out,
            recipe=options.config,
            images=options.images,
            train=options.train,
            val=options.val,
            **keys,
        )
    )
    print(f"{time.perf_counter() - start:.0f} seconds in all")


if __name__ == "__main__":
    main()
