"""The table of docs/results/energy.md: every way to shape an energy, for one alpha decoder, on one
budget, judged by labels that none has seen. Made one after another; a row that is there stays.

    python tools/energies.py runs/nuclei --data val.json --out runs/energies
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from genseg import config as configs
from genseg.core.files import write_text
from genseg.energies.corrupt import KINDS
from genseg.energies.strategies import SHAPINGS
from genseg.recipes import recipe
from genseg.workflows.energy.config import CHOICES, EnergyConfig
from genseg.workflows.energy.energy import shape_energy
from genseg.workflows.energy.evaluate import evaluate_energies

ROWS = "rows.json"


def main() -> None:
    """Make what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("alpha", type=Path, metavar="RUN", help="a run with the alpha task")
    parser.add_argument("--data", type=Path, required=True, metavar="JSON", help="labels")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="runs and rows")
    parser.add_argument("--only", nargs="+", choices=sorted(SHAPINGS), default=list(SHAPINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--images", type=int, default=0, help="labelled images; 0: all")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="keys of genseg energy")
    options = parser.parse_args()
    file = options.out / ROWS
    rows: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    for seed in options.seeds:
        for name in options.only:
            key = f"{name}-{seed}"
            if key not in rows:
                rows[key] = _row(name, seed, options)
                write_text(file, json.dumps(rows, indent=1))
    print(table(rows))


def _row(name: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Shape one energy and judge it."""
    run = options.out / f"{name}-{seed}"
    given = [f"alpha={options.alpha}", f"run={run}", f"seed={seed}", *options.overrides]
    config = configs.load(
        EnergyConfig, file=recipe(Path(name), "energy"), overrides=given, choices=CHOICES
    )
    start = time.perf_counter()
    shaped = shape_energy(config)
    seconds = time.perf_counter() - start
    assert shaped.judgement is not None
    found: dict[str, Any] = {"seconds": seconds, "maps": shaped.maps_seen}
    found["moved"], found["code"] = shaped.judgement.moved, shaped.judgement.code
    for title, overlap in (("wide", (0.3, 0.6)), ("near", (0.72, 0.78))):
        scores = evaluate_energies(
            [run], options.alpha, options.data, images=options.images, overlap=overlap
        )
        found[title] = scores.numbers()[str(run)]
    return found


def table(rows: dict[str, Any]) -> str:
    """The rows in Markdown."""
    head = ["shape", "maps", "min", "AUROC", *KINDS, "at 0.75", "recon.", "copy", "ignore", "moved"]
    head += ["by score", "by E", "ranked"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for key, row in rows.items():
        wide, near = row["wide"]["all"], row["near"]["all"]
        kinds = [wide["separation"][kind] for kind in KINDS]
        spearman = wide["spearman"]
        strengths = [near["separation"][k] for k in KINDS if k in STRENGTHS]
        numbers = [
            *(sum(kinds) / len(kinds), *kinds, sum(strengths) / len(strengths)),
            *(wide["reconstruction"], wide["copy"], wide["ignore"], row["moved"]),
            *(spearman["score"], spearman["energy"], spearman["ranked"]),
        ]
        cells = [key, f"{row['maps']:,}", f"{row['seconds'] / 60:.1f}"]
        lines.append("| " + " | ".join(cells + [f"{x:.3f}" for x in numbers]) + " |")
    return "\n".join(lines)


STRENGTHS = ("shift", "dilate", "erode", "cut", "noise")  # kinds whose overlap can be chosen


if __name__ == "__main__":
    main()
