"""The table of docs/results/energy.md: every way to shape an energy, for one alpha decoder, on one
budget, judged by labels that none has seen. Made one after another; a row that is there stays. Of
several seeds: what each has more than the default, paired.

    python tools/energies.py runs/nuclei --data val.json --out runs/energies
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from genseg import config as configs
from genseg.commands.energy import DEFAULT
from genseg.core.files import write_text
from genseg.energies.corrupt import KINDS
from genseg.energies.strategies import SHAPINGS
from genseg.measure.paired import mean_and_spread
from genseg.recipes import recipe
from genseg.workflows.energy.config import CHOICES, EnergyConfig
from genseg.workflows.energy.energy import shape_energy
from genseg.workflows.energy.evaluate import Looked, look_at_labels

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
    options = parser.parse_intermixed_args()
    file = options.out / ROWS
    rows: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    looked: Looked | None = None  # at the labels, once for all rows
    for seed in options.seeds:
        for name in options.only:
            key = f"{name}-{seed}"
            if key not in rows:
                looked = looked or look_at_labels(
                    options.alpha, options.data, images=options.images
                )
                rows[key] = _row(name, seed, looked, options)
                write_text(file, json.dumps(rows, indent=1))
    print(table(rows))
    print(differences(rows))


def _row(name: str, seed: int, looked: Looked, options: argparse.Namespace) -> dict[str, Any]:
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
        found[title] = looked.scores([run], overlap=overlap).numbers()[str(run)]
    return found


def table(rows: dict[str, Any]) -> str:
    """The rows in Markdown."""
    first = next(iter(rows.values()), None)
    head = ["shape", "maps", "min", *([] if first is None else _numbers(first))]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for key, row in rows.items():
        cells = [key, f"{row['maps']:,}", f"{row['seconds'] / 60:.1f}"]
        lines.append("| " + " | ".join(cells + [f"{x:.3f}" for x in _numbers(row).values()]) + " |")
    return "\n".join(lines)


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    """Of a row, by the words of the table's head."""
    wide, near = row["wide"]["all"], row["near"]["all"]
    kinds = {kind: wide["separation"][kind] for kind in KINDS}
    strengths = [near["separation"][k] for k in KINDS if k in STRENGTHS]
    spearman = wide["spearman"]
    return {
        "AUROC": sum(kinds.values()) / len(kinds),
        **kinds,
        "at 0.75": sum(strengths) / len(strengths),
        **{"recon.": wide["reconstruction"], "copy": wide["copy"], "ignore": wide["ignore"]},
        "moved": row["moved"],
        **{"by score": spearman["score"], "by E": spearman["energy"]},
        "ranked": spearman["ranked"],
    }


def differences(rows: dict[str, Any]) -> str:
    """What each shaping has more than the default, in Markdown: mean and standard deviation over
    the seeds that both have; nothing where no two seeds are shared."""
    seeds = dict[str, dict[str, dict[str, float]]]()  # shape -> seed -> numbers
    for key, row in rows.items():
        name, _, seed = key.rpartition("-")
        seeds.setdefault(name, {})[seed] = _numbers(row)
    usual, lines = seeds.pop(DEFAULT, {}), list[str]()
    for name, mine in seeds.items():
        shared = [seed for seed in mine if seed in usual]
        if len(shared) < 2:
            continue
        cells = [name, str(len(shared))]
        for word in next(iter(mine.values())):
            more = [mine[seed][word] - usual[seed][word] for seed in shared]
            cells.append("{:+.3f} ± {:.3f}".format(*mean_and_spread(more)))
        lines.append("| " + " | ".join(cells) + " |")
    if not lines:
        return ""
    head = [f"minus {DEFAULT}", "seeds", *next(iter(usual.values()))]
    return "\n".join(["", "| " + " | ".join(head) + " |", "|" + "---|" * len(head), *lines])


STRENGTHS = ("shift", "dilate", "erode", "cut", "noise")  # kinds whose overlap can be chosen


if __name__ == "__main__":
    main()
