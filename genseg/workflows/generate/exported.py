"""A file of `genseg export RUN --out FILE.onnx`, opened as the run that it was."""

from dataclasses import dataclass, replace
from pathlib import Path

from genseg.core.reading import Reading
from genseg.data.instances.instance import Instance
from genseg.data.labels.categories import Categories
from genseg.onnx.model import OnnxModel, load
from genseg.transfer.contract import Pixels
from genseg.workflows.generate.shrinking import Shrinking

USUAL = 0.5  # the least score of a detection that counts, as in genseg predict


@dataclass(frozen=True)
class ExportedRun:
    """An alpha model or a detector that onnxruntime runs. As of the runs themselves, instances from
    half of `score` on are found, or all of a detector's."""

    model: OnnxModel
    score: float
    boxes: bool = False

    @property
    def categories(self) -> Categories:
        return self.model.facts.categories

    @property
    def reading(self) -> Reading:
        """How files are read."""
        return self.model.facts.reading

    @property
    def shrinking(self) -> Shrinking:
        side, fit = self.model.facts.side, self.model.facts.fit

        def factor(h: int, w: int) -> float:
            return min(h, w) / side if side else max(h, w) / fit if fit else 1.0

        return Shrinking(
            factor, float(self.model.facts.drawing.stride), "a run itself takes --side"
        )

    def instances(self, pixels: Pixels) -> list[Instance]:
        return self.model.instances(pixels)

    def at(self, pixels: Pixels, y: int, x: int) -> Instance | None:
        """It looks at whole images alone."""
        return None


def open_exported(file: Path) -> ExportedRun:
    """Raises ValueError as `genseg.onnx.load` does."""
    model = load(file)
    if model.facts.kind == "places":
        return ExportedRun(model, USUAL)
    usual = model.config.score
    model.config = replace(model.config, score=usual / 2)
    return ExportedRun(model, usual)
