"""What was found wrong with the labels of a set: kinds, counts, and what happens to them."""

from dataclasses import dataclass

KINDS = {  # what may be found: in words, and what happens to it
    "twice": ("images that are listed twice", "listed once"),
    "same file": ("images with the file of another", "left out, with their annotations"),
    "missing": ("files that are missing or cannot be read", "left out, with their annotations"),
    "size": ("images of another size than the json says", "left out, with their annotations"),
    "root": ("categories without labels, named as another (Roboflow's root)", "left out"),
    "empty": ("images without a label", "kept, as background"),
    "no image": ("annotations of images that are not listed", "left out"),
    "category": ("annotations of an unknown category", "left out"),
    "number": ("annotations with the id of another", "numbered anew"),
    "duplicate": ("annotations that repeat another", "left out"),
    "no mask": ("annotations without a segmentation", "left out"),
    "iscrowd": ("annotations whose iscrowd is neither 0 nor 1", "left out"),
    "score": ("annotations whose score is no finite number", "left out"),
    "polygon": ("annotations with bad polygons", "those polygons are left out"),
    "scale": ("annotations with coordinates from 0 to 1", "left out"),
    "rle": ("annotations with a bad segmentation", "left out"),
    "nothing": ("annotations whose mask holds no pixel", "left out"),
    "no box": ("annotations without a box that can be used", "left out"),
    "outside": ("boxes wholly outside their image", "left out"),
    "clipped": ("boxes partly outside their image", "clipped"),
    "thin": ("boxes less than a pixel wide or high", "left out"),
    "box": ("boxes that are not those of their masks", "the mask counts"),
    "area": ("areas that are not those of their masks", "the mask counts"),
    "crowd": (
        "crowds",
        "left out of training, ignored in scoring (CVAT's brush masks: set iscrowd to 0)",
    ),
}
# the kinds by which no label is lost
KEPT = {"twice", "empty", "number", "clipped", "box", "area", "crowd", "root"}


@dataclass(frozen=True)
class Finding:
    """One kind of what was found: how often, where first, what happens to them, and whether labels
    are lost by it."""

    what: str
    count: int
    first: str
    outcome: str
    lost: bool = False


Findings = tuple[Finding, ...]


class Tally:
    """Counts what is found, by the kinds of KINDS."""

    def __init__(self) -> None:
        self._count: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, kind: str, where: str) -> None:
        self._count[kind] = self._count.get(kind, 0) + 1
        self._first.setdefault(kind, where)

    def findings(self) -> Findings:
        """In the order of KINDS."""
        return tuple(
            Finding(what, self._count[kind], self._first[kind], outcome, kind not in KEPT)
            for kind, (what, outcome) in KINDS.items()
            if kind in self._count
        )


def counted(findings: Findings) -> str:
    """How often each kind was found, and where first, as part of a sentence."""
    return "; ".join(f"{f.count} {f.what}, first: {f.first}" for f in findings)


def format_findings(findings: Findings) -> str:
    """A line for each: how often, what, what happens, and the first; empty when nothing was
    found."""
    wide = [
        max((len(str(v)) for v in column), default=0)
        for column in zip(*((f.count, f.what, f.outcome) for f in findings), strict=True)
    ]
    return "\n".join(
        f"{f.count:{wide[0]}d} {f.what:{wide[1]}s}  {f.outcome:{wide[2]}s}  first: {f.first}"
        for f in findings
    )
