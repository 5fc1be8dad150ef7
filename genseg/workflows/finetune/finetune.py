"""Fine-tuning: from labelled images and an encoder to a detector or a segmenter, and what it is
worth."""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genseg import __version__
from genseg import config as configs
from genseg.core import dist
from genseg.core.files import write_text
from genseg.core.paths import expand
from genseg.core.precision import scoring_precision
from genseg.data.images.uneven import notes_on
from genseg.data.labels.findings import Findings, format_findings
from genseg.data.labels.read import ReadLabels, read_labels
from genseg.data.labels.samples import Sample, SemanticSample
from genseg.nn.momentum import follow, share_statistics, teacher_of
from genseg.runs import checkpoint
from genseg.runs.folder import write_environment
from genseg.runs.metrics import METRICS_NAME, MetricsFile, ProgressLine, Row
from genseg.runs.resume import Saved, due, take
from genseg.train.loop import Timing, train
from genseg.train.optim import lr_at, restore_strides
from genseg.train.watch import Watcher
from genseg.transfer.contract import Labelled
from genseg.transfer.predictor import (
    BEST_NAME,
    MODEL_NAME,
    Predictor,
    load_predictor,
    save_predictor,
)
from genseg.workflows.evaluate.detector import Scores, evaluate_model, read_scores
from genseg.workflows.finetune.parts import (
    FREE_KEYS,
    FinetuneConfig,
    FinetuneParts,
    assemble_finetune,
)

SCORES_NAME, PREFLIGHT_NAME = "scores.json", "preflight.txt"


@dataclass(frozen=True)
class Within:
    """How a run goes on within another command: it says nothing and leaves no report.

    progress: the line that shows how far it is; None: nothing does
    """

    progress: ProgressLine | None = None
    read: ReadLabels = read_labels


def finetune(
    config: FinetuneConfig,
    *,
    fresh: bool = False,
    within: Within | None = None,
    watch: Watcher | None = None,
) -> bool:
    """Train, or go on where the run directory stands; True when the run is complete, False when it
    was interrupted.

    Leaves `config.yaml env.json preflight.txt metrics.jsonl checkpoints/ model.safetensors` in
    `config.run`, with validation data `best.safetensors scores.json`, and what `watch` makes of
    them. Raises ValueError for what a user can mend, RuntimeError (non-finite loss, disk full) for
    what stopped the run.
    """
    parts = assemble_finetune(config, within.read if within else read_labels)
    run = expand(config.run)
    main = parts.accelerator.is_main_process
    with contextlib.ExitStack() as stack:
        saved = take(
            stack,
            run,
            parts.described,
            main=main,
            fresh=fresh,
            fingerprint=parts.fingerprint,
            free=FREE_KEYS,
            source=f"the labels of {' or '.join(parts.findings)}, or encoder={config.encoder},",
        )
        with dist.together():
            if main:
                val = config.data.val and str(expand(config.data.val).absolute())
                facts = parts.circumstances | {"folder": images_of(config), "val": val}
                write_environment(run, device=parts.accelerator.device, facts=facts)
                if saved is None:
                    write_text(run / "config.yaml", configs.to_yaml(parts.config))
                text = "\n\n".join(
                    f"{file}\n{as_told(found)}" for file, found in parts.findings.items()
                )
                write_text(run / PREFLIGHT_NAME, text + "\n")
        session = stack.enter_context(
            contextlib.closing(FinetuneSession(parts, run, saved, within, watch))
        )
        session.greet()
        done = session.train()
    if main and within is None:
        if done:
            print(session.summary())
        if session.watch is not None:
            session.watch.done(complete=done)
    return done


def check(config: FinetuneConfig) -> str:
    """What is in the labels, and what happens to each finding; nothing is trained."""
    tables: list[str] = []
    categories = None  # of the training split, once it is read
    for file in filter(None, (config.data.train, config.data.val)):
        labelled, found = read_labels(file, config.model.name, categories=categories)
        categories = categories or labelled.categories
        labels = f"{sum(len(i.classes) for i in labelled.images)} labels"
        if any(i.semantic for i in labelled.images):
            labels = "a map of classes for each"
        head = (
            f"{file}: {len(labelled.images)} images, {labels}, {len(labelled.categories)} classes"
        )
        more = notes_on(tuple(image.path for image in labelled.images))
        tables.append("\n".join([head, *([more] if more else ()), as_told(found)]))
    return "\n\n".join(tables)


def as_told(found: Findings) -> str:
    """A table of findings, or that there are none."""
    return format_findings(found) or "nothing is wrong with the labels"


def images_of(config: FinetuneConfig) -> str:
    """Where the training images are listed: the json, or the images/ beside masks/."""
    root = expand(config.data.train).absolute()
    return str(root / "images" if (root / "masks").is_dir() else root)


class FinetuneSession:
    """One process's part in a run: the hooks of the loop."""

    def __init__(
        self,
        parts: FinetuneParts,
        run: Path,
        saved: Saved | None,
        within: Within | None = None,
        watch: Watcher | None = None,
    ) -> None:
        self.parts, self.config, self.run = parts, parts.config, run
        self.main = parts.accelerator.is_main_process
        self.device = parts.accelerator.device
        parts.predictor.precision = scoring_precision(parts.config.precision, self.device)
        self.average = teacher_of(parts.model) if parts.config.ema else None
        self.step = 0
        self.best, self.stale = -math.inf, 0
        self.finished = False
        self.whole: Scores | None = None  # of the best model on all images, where that is known
        if saved is not None:
            self._restore(*saved)
        c, plan = parts.config, parts.plan
        self.log_every = plan.steps(c.log_every)
        self.save_every = plan.steps(c.checkpoint.every)
        self.score_every = plan.steps(c.validate.every) if parts.val is not None else 0
        self.frozen_until = plan.steps(c.freeze)
        self.metrics = MetricsFile(run / METRICS_NAME, self.step) if self.main else None
        self.alone = within is None
        self.progress = within.progress if within else ProgressLine()
        self.watch = watch(run, self._say) if self.main and watch else None

    def batches(self) -> Iterator[Any]:
        """This rank's batches from the present step on."""
        return self.parts.loader(self.step)

    def train(self) -> bool:
        """From the present step to the end. Returns whether the end was reached."""
        parts, c = self.parts, self.config
        if self.step < parts.plan.total and not self.finished:
            made = train(
                parts.wrapped,
                parts.optimizer,
                self.batches(),
                parts.accelerator,
                self,
                plan=parts.plan,
                start=self.step,
                passes=c.accumulate,
                clip=c.optimizer.clip,
                seed=c.seed,
            )
            if made < parts.plan.total and not self.finished:
                self._save(made)
                self._say(f"interrupted after step {made}; the same command goes on from there")
                return False
        self._finish()
        return True

    def summary(self) -> str:
        """What a finished run has made."""
        name = BEST_NAME if self.parts.val is not None else MODEL_NAME
        text = (
            f"{self.run / name}: {self.config.model.name}, {len(self.parts.train.categories)} "
            "classes"
        )
        if self.parts.val is None:
            return (
                f"{text}\nIts worth on labelled images: genseg evaluate detector {self.run} "
                "--data JSON"
            )
        scores = read_scores(json.loads((self.run / SCORES_NAME).read_text()))
        return f"{text}\n{scores.table()}"

    def close(self) -> None:
        """Close the files that are written to, and leave the process group."""
        if self.progress and self.alone:
            self.progress.end()
        if self.metrics is not None:
            self.metrics.file.close()
        self.parts.accelerator.end_training()

    # hooks of the loop

    def inputs(self, batch: list[Sample] | list[SemanticSample]) -> tuple[int, Labelled]:
        """Crops on the device, normalised."""
        pixels = torch.stack([s.image for s in batch]).to(self.device, non_blocking=True)
        x = self.parts.predictor.preparation.normalised(pixels)
        x = x if self.config.channels_last else x.contiguous()
        return len(batch), labelled(x, batch)

    def learning_rate(self, step: int) -> float:
        return lr_at(self.config.optimizer, self.parts.plan, step)

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

    def measured(
        self, step: int, outputs: dict[str, Tensor], timing: Timing, grad_norm: float
    ) -> None:
        """Log, score and save at their intervals."""
        self.step = step
        last = step == self.parts.plan.total
        if due(step, self.log_every) or step == 1 or last:
            self._log(outputs, timing, grad_norm)
            if self.watch is not None and not last:
                self.watch.update()
            timing.reset()
        if due(step, self.score_every) or (last and self.score_every):
            self._score(step)
            timing.reset()
        if last or due(step, self.save_every):
            self._save(step)
            timing.reset()

    # what the hooks do

    @property
    def predictor(self) -> Predictor:
        """What is scored and kept: the average of the weights, where there is one."""
        p = self.parts.predictor
        if self.average is None:
            return p
        averaged = Predictor(self.average, p.categories, p.preparation)  # type: ignore[arg-type]
        averaged.precision = p.precision
        return averaged

    def _log(self, outputs: Mapping[str, Tensor], timing: Timing, grad_norm: float) -> None:
        plan = self.parts.plan
        terms = {k: float(dist.mean(v.detach())) for k, v in outputs.items() if v.numel() == 1}
        if self.metrics is None:
            return
        rate = timing.images / timing.seconds
        row: Row = {
            "step": self.step,
            "epoch": round(self.step / plan.steps_per_epoch, 4),
            "images": self.step * plan.batch,
            **terms,
            "grad_norm": grad_norm,
            "lr": self.learning_rate(self.step - 1),
            "images_per_second": rate,
            "data_wait": timing.waiting / timing.seconds,
            "eta_seconds": (plan.total - self.step) * plan.batch / rate,
        }
        self.metrics.write(row)
        if self.progress:
            self.progress.show(row, plan.total, force=self.step == plan.total)

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
            self.metrics.write(
                {
                    "step": step,
                    **{f"val {k}": x for k, x in scores.values.items() if not math.isnan(x)},
                }
            )
            self._say(f"step {step}: {scores.line()}")
        if value > self.best:
            self.best, self.stale = value, 0
            self.whole = None if v.limit else scores
            with dist.together():
                if self.main:
                    self._keep(BEST_NAME, step)
        else:
            self.stale += 1
            if self.config.patience and self.stale >= self.config.patience:
                self._say(f"no better than {self.best:.4f} for {self.stale} scores: stopping early")
                self.finished = True
                self._save(step)

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

    def _save(self, step: int) -> None:
        self._agree()
        with dist.together():
            if self.main:
                self._write(step)

    def _write(self, step: int) -> None:
        scaler = self.parts.accelerator.scaler
        tensors, structure = checkpoint.flatten(
            {
                "model": self.parts.model.state_dict(),
                "average": self.average.state_dict() if self.average is not None else {},
                "optimizer": self.parts.optimizer.state_dict(),
                "scaler": scaler.state_dict() if scaler else {},
            }
        )
        state = {
            "step": step,
            "structure": structure,
            "config": self.parts.described,
            "version": __version__,
            "fingerprint": self.parts.fingerprint,
            "best": self.best,
            "stale": self.stale,
            "finished": self.finished,
        }
        # before the checkpoint: a kill between them must not leave a run without it
        self._keep(MODEL_NAME, step)
        checkpoint.save(self.run, step, tensors, state, keep=self.config.checkpoint.keep)

    def _restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        content = checkpoint.unflatten(tensors, state["structure"])
        self.parts.model.load_state_dict(content["model"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.parts.optimizer.load_state_dict(content["optimizer"])
        restore_strides(self.parts.optimizer)
        if self.parts.accelerator.scaler and content["scaler"]:
            self.parts.accelerator.scaler.load_state_dict(content["scaler"])
        self.step = int(state["step"])
        self.best, self.stale, self.finished = (
            float(state["best"]),
            int(state["stale"]),
            bool(state["finished"]),
        )

    def greet(self) -> None:
        """Say what begins."""
        p, c = self.parts, self.config
        for file, found in p.findings.items():
            self._say(f"{file}\n{as_told(found)}")
        for note in p.notes:
            self._say(note)
        self._say(
            f"{c.model.name}: {len(p.train.images)} images of {c.data.train}, "
            f"{len(p.train.categories)} classes, "
            f"{p.plan.total} steps of {p.plan.batch} images, {dist.world()} process(es), precision "
            f"{p.accelerator.mixed_precision}"
            + (f", going on from step {self.step}" if self.step else "")
        )

    def _say(self, text: str) -> None:
        if self.main and self.progress and self.alone:
            self.progress.say(text)


def labelled(x: Tensor, batch: list[Sample] | list[SemanticSample]) -> Labelled:
    """A batch for the model, on the device of its images `x`."""
    semantic = [s.target for s in batch if isinstance(s, SemanticSample)]
    if semantic:
        return Labelled(x, [], [], None, torch.stack(semantic).to(x.device))
    found = [s for s in batch if isinstance(s, Sample)]
    masks = [s.masks.to(x.device) for s in found if s.masks is not None]
    boxes, classes = [s.boxes.to(x.device) for s in found], [s.classes.to(x.device) for s in found]
    return Labelled(x, boxes, classes, masks if len(masks) == len(found) else None)
