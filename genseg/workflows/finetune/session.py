"""One process's part in a fine-tuning run: the hooks of the loop."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from genseg.core import dist
from genseg.core.files import write_text
from genseg.core.names import BEST_NAME, MODEL_NAME, SCORES_NAME
from genseg.core.precision import scoring_precision
from genseg.core.result import Result
from genseg.data.labels.findings import Findings, format_findings
from genseg.data.labels.read import ReadLabels, read_labels
from genseg.data.labels.samples import Sample, SemanticSample
from genseg.nn.momentum import follow, share_statistics, teacher_of
from genseg.runs.metrics import ProgressLine
from genseg.runs.resume import Saved, due
from genseg.train.loop import Timing
from genseg.train.session import Session, loss_terms
from genseg.train.watch import Watcher
from genseg.transfer.contract import Labelled
from genseg.transfer.predictor import Predictor, load_predictor, save_predictor
from genseg.workflows.evaluate.detector import Scores, evaluate_model, read_scores
from genseg.workflows.finetune.parts import FinetuneParts


@dataclass(frozen=True)
class Within:
    """How a run goes on within another command: it says nothing and leaves no report.

    progress: the line that shows how far it is; None: nothing does
    """

    progress: ProgressLine | None = None
    read: ReadLabels = read_labels


def findings_text(found: Findings) -> str:
    """A table of findings, or that there are none."""
    return format_findings(found) or "nothing is wrong with the labels"


@dataclass(frozen=True)
class Finetuned(Result):
    """A fine-tuning run.

    complete: the end was reached; else the same command goes on
    step, steps: updates made, and planned
    weights: of the model that scored best on validation data, or else of the last one
    scores: of these on all validation data, where there are some
    """

    run: Path
    complete: bool
    step: int
    steps: int
    model: str
    classes: tuple[str, ...]
    weights: Path
    scores: Scores | None = None

    def text(self) -> str:
        if not self.complete:
            return f"{self.run}: {self.step} of {self.steps} steps; the same command goes on"
        text = f"{self.weights}: {self.model}, {len(self.classes)} classes"
        if self.scores is None:
            return (
                f"{text}\nIts worth on labelled images: genseg evaluate detector {self.run} "
                "--data JSON"
            )
        return f"{text}\n{self.scores.table()}"


class FinetuneSession(Session):
    """The hooks of fine-tuning."""

    def __init__(
        self,
        parts: FinetuneParts,
        run: Path,
        saved: Saved | None,
        within: Within | None = None,
        watch: Watcher | None = None,
    ) -> None:
        self.parts, self.module = parts, parts.model
        self.alone = within is None
        progress = within.progress if within else ProgressLine()
        super().__init__(parts, run, progress=progress, watch=watch)
        parts.predictor.precision = scoring_precision(parts.config.precision, self.device)
        self.average = teacher_of(parts.model) if parts.config.ema else None
        self.best, self.stale = -math.inf, 0
        self.whole: Scores | None = None  # of the best model on all images, where that is known
        if saved is not None:
            state = self.restore(saved, self._modules)
            self.best, self.stale = float(state["best"]), int(state["stale"])
            self.finished = bool(state["finished"])
        c, plan = parts.config, parts.plan
        self.score_every = plan.steps(c.validate.every) if parts.val is not None else 0
        self.frozen_until = plan.steps(c.freeze)
        self.open_metrics(c.tracker)

    @property
    def _modules(self) -> dict[str, nn.Module | None]:
        """What a checkpoint holds."""
        return {"model": self.parts.model, "average": self.average}

    def batches(self) -> Iterator[Any]:
        """This rank's batches from the present step on."""
        return self.parts.loader(self.step)

    def train(self) -> bool:
        """From the present step to the end. Returns whether the end was reached."""
        if self.step < self.plan.total and not self.finished and not self.advance(self.batches()):
            return False
        self._finish()
        return True

    def result(self, *, complete: bool) -> "Finetuned":
        """What the run has made so far."""
        scored = complete and self.main and self.parts.val is not None
        content = json.loads((self.run / SCORES_NAME).read_text()) if scored else None
        return Finetuned(
            run=self.run,
            complete=complete,
            step=self.step,
            steps=self.plan.total,
            model=self.config.model.name,
            classes=tuple(name for _, name in self.parts.train.categories),
            weights=self.run / (BEST_NAME if self.parts.val is not None else MODEL_NAME),
            scores=None if content is None else read_scores(content),
        )

    def close(self) -> None:
        """Close the files that are written to, and leave the process group."""
        if self.progress and self.alone:
            self.progress.end()
        super().close()

    # hooks of the loop

    def inputs(self, batch: list[Sample] | list[SemanticSample]) -> tuple[int, Labelled]:
        """Crops on the device, normalised."""
        pixels = torch.stack([s.image for s in batch]).to(self.device, non_blocking=True)
        x = self.parts.predictor.preparation.normalised(pixels)
        x = x if self.config.channels_last else x.contiguous()
        return len(batch), labelled(x, batch)

    def begin_step(self) -> None:
        self.parts.model.train()

    def before_step(self, progress: float) -> None:
        """What is frozen has no gradient; its batch norms go on averaging what they see."""
        if self.step < self.frozen_until:
            for p in self.parts.loaded:
                p.grad = None

    def after_step(self, progress: float) -> None:
        if self.average is not None:
            follow(self.average, self.parts.model, self.config.ema, "ema")

    # what the hooks do

    def judge(self, step: int, *, last: bool) -> bool:
        if not (due(step, self.score_every) or (last and self.score_every)):
            return False
        self._score(step)
        return True

    @property
    def predictor(self) -> Predictor:
        """What is scored and kept: the average of the weights, where there is one."""
        p = self.parts.predictor
        if self.average is None:
            return p
        averaged = Predictor(self.average, p.categories, p.preparation)  # type: ignore[arg-type]
        averaged.precision = p.precision
        return averaged

    def log(self, outputs: dict[str, Tensor], timing: Timing, grad_norm: float) -> None:
        terms = loss_terms(outputs)
        if self.metrics is None:
            return
        row = self.row(terms, timing, grad_norm)
        self.record(row)
        if self.progress:
            self.progress.show(row, self.plan.total, force=self.step == self.plan.total)

    def _score(self, step: int) -> None:
        """Score the validation images; the best model so far is kept."""
        v = self.config.validate
        assert self.parts.val is not None
        self._agree()
        scores = evaluate_model(
            self.predictor, self.parts.val, limit=v.limit, detections=v.detections
        )
        value = scores.main
        if self.metrics is not None:
            self.record(
                {
                    "step": step,
                    **{f"val {k}": x for k, x in scores.values.items() if not math.isnan(x)},
                }
            )
            self.say(f"step {step}: {scores.line()}")
        if value > self.best:
            self.best, self.stale = value, 0
            self.whole = None if v.limit else scores
            with dist.together():
                if self.main:
                    self._keep(BEST_NAME, step)
        else:
            self.stale += 1
            if self.config.patience and self.stale >= self.config.patience:
                self.say(f"no better than {self.best:.4f} for {self.stale} scores: stopping early")
                self.finished = True
                self.save(step, ends=True)

    def _finish(self) -> None:
        """Score the best model on all validation images."""
        if self.parts.val is None:
            return
        scores = self.whole
        if scores is None:
            best, _ = load_predictor(self.run)  # the last one, where no score was taken on the way
            best.model.to(self.device)
            best.precision = self.parts.predictor.precision
            scores = evaluate_model(
                best, self.parts.val, detections=self.config.validate.detections
            )
        with dist.together():
            if self.main:
                write_text(self.run / SCORES_NAME, json.dumps(scores.as_json(), indent=1) + "\n")

    def _keep(self, name: str, step: int) -> None:
        c = self.config
        save_predictor(
            self.predictor,
            self.parts.architecture,
            self.run / name,
            step=step,
            precision=c.precision,
            detections=c.validate.detections,
        )

    def _agree(self) -> None:
        """Give all ranks the mean of their batch norms' statistics: each has averaged its own
        crops."""
        for module in filter(None, (self.parts.model, self.average)):
            share_statistics(module)

    def save(self, step: int, *, ends: bool) -> None:
        self._agree()
        with dist.together():
            if self.main:
                # before the checkpoint: a kill between them must not leave a run without it
                self._keep(MODEL_NAME, step)
                state = {"best": self.best, "stale": self.stale, "finished": self.finished}
                self.save_checkpoint(step, self._modules, state)

    def say(self, text: str) -> None:
        if self.alone:
            super().say(text)

    def greet(self) -> None:
        """Say what begins."""
        p, c = self.parts, self.config
        for file, found in p.findings.items():
            self.say(f"{file}\n{findings_text(found)}")
        for note in p.notes:
            self.say(note)
        self.say(
            f"{c.model.name}: {len(p.train.images)} images of {c.data.train}, "
            f"{len(p.train.categories)} classes, {p.plan.total} steps of {p.plan.batch} images, "
            f"{dist.world()} process(es), precision {p.accelerator.mixed_precision}"
            + (f", going on from step {self.step}" if self.step else "")
        )


def labelled(x: Tensor, batch: list[Sample] | list[SemanticSample]) -> Labelled:
    """A batch for the model, on the device of its images `x`."""
    semantic = [s.target for s in batch if isinstance(s, SemanticSample)]
    if semantic:
        return Labelled(x, [], [], None, torch.stack(semantic).to(x.device))
    found = [s for s in batch if isinstance(s, Sample)]
    masks = [s.masks.to(x.device) for s in found if s.masks is not None]
    boxes, classes = (
        [s.boxes_xyxy.to(x.device) for s in found],
        [s.classes.to(x.device) for s in found],
    )
    return Labelled(x, boxes, classes, masks if len(masks) == len(found) else None)
