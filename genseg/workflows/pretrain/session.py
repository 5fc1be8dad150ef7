"""One process's part in a pretraining run: the hooks of the loop."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from genseg import __version__
from genseg.core import dist
from genseg.core.files import write_text
from genseg.core.names import BROKEN_NAME, ENCODER_NAME, METRICS_NAME, TIMM
from genseg.core.result import Result
from genseg.core.words import amount
from genseg.data.composites.dataset import Batch
from genseg.data.images.pixels import normalise
from genseg.data.images.source import ImageError
from genseg.data.images.views import colour_batch
from genseg.joint import Inputs, Joint
from genseg.measure.features import features
from genseg.measure.representation.collapse import spread, verdict
from genseg.measure.representation.measured import quick_measures
from genseg.measure.representation.spectrum import effective_rank
from genseg.methods.method import Predicts
from genseg.nn.encoder_file import EncoderFacts, save_encoder
from genseg.runs.metrics import ProgressLine, read_metrics
from genseg.runs.resume import Saved, due
from genseg.train.loop import Timing
from genseg.train.session import Session, loss_terms
from genseg.train.watch import Watcher
from genseg.workflows.evaluate.probe_sets import LabelledImages
from genseg.workflows.export.timm_folder import save_timm_folder
from genseg.workflows.pretrain.config import ALWAYS_BROKEN
from genseg.workflows.pretrain.notes import notes
from genseg.workflows.pretrain.online_probe import build_probe
from genseg.workflows.pretrain.parts import Parts
from genseg.workflows.pretrain.predictions import Predictions
from genseg.workflows.pretrain.rounds import Rounds
from genseg.workflows.pretrain.snapshots import Snapshots


@dataclass(frozen=True)
class Pretrained(Result):
    """A pretraining run.

    complete: the end was reached; else the same command goes on
    step, steps: updates made, and planned
    task: what was trained, such as "simclr and alpha"
    broken: images that could not be read, as broken.txt lists them
    alpha: the run generates instance alpha maps
    knn: accuracy of `neighbours` nearest neighbours on labelled images of `classes` classes, before
        training, at its intervals, and after it; empty where the images have no classes
    supervised: training has read the classes of images
    """

    run: Path
    complete: bool
    step: int
    steps: int
    images_seen: int
    task: str
    broken: tuple[str, ...] = ()
    broken_text: str = ""
    alpha: bool = False
    neighbours: int = 0
    classes: int = 0
    knn: tuple[float, ...] = ()
    supervised: bool = False

    @property
    def encoder(self) -> Path:
        """The weights of the encoder."""
        return self.run / ENCODER_NAME

    def text(self) -> str:
        if not self.complete:
            return f"{self.run}: {self.step} of {self.steps} steps; the same command goes on"
        text = f"{self.encoder}: {self.task}, {self.images_seen} images seen"
        if self.broken:
            text += f"; {self.broken_text}"
        if self.alpha:
            text += (
                f"\nInstance alpha maps of any folder: genseg generate {self.run} FOLDER --out DIR"
            )
        if len(self.knn) < 2:
            return text
        before, after = 100 * self.knn[0], 100 * self.knn[-1]
        return (
            f"{text}\nOf 100 labelled images, {after:.0f} now get the right class from the "
            f"{self.neighbours} images that the encoder finds most alike.\n"
            f"Before training it was {before:.0f}, by chance it is {100 / self.classes:.0f}. "
            + ("Training has seen labels." if self.supervised else "Training has seen no label.")
        )


class PretrainSession(Session):
    """The hooks of pretraining."""

    progress: ProgressLine

    def __init__(
        self,
        parts: Parts,
        run: Path,
        saved: Saved | None,
        watch: Watcher | None = None,
        progress: ProgressLine | None = None,
    ) -> None:
        self.parts, self.module, self.alone = parts, parts.module, progress is None
        super().__init__(parts, run, progress=progress or ProgressLine(), watch=watch)
        self.broken: set[int] = set()
        self.reasons: dict[int, str] = {}
        if saved is not None:
            self.broken = set(self.restore(saved, {"module": parts.module})["broken"])
        self.broken |= parts.known_broken or set()
        c = parts.config
        self.probe_every = parts.plan.steps(c.probe.every)
        with dist.together():
            self.probe = (
                build_probe(c.probe, parts.source) if self.main and self.probe_every else None
            )
        self.open_metrics(c.tracked)
        self.warned: str | None = None
        self.rounds = (
            Rounds(parts, run, self.record, self.say) if isinstance(parts.module, Joint) else None
        )
        method = parts.module.method if isinstance(parts.module, Joint) else parts.module
        with dist.together():
            self.predictions = (
                Predictions(run, method, parts, self.step)
                if self.main and isinstance(method, Predicts)
                else None
            )
            self.snapshots = (
                Snapshots(run, self.rounds.source, self.step) if self.main and self.rounds else None
            )

    @property
    def status(self) -> str:
        """Where a run that has begun is."""
        return (
            "finished already"
            if self.step == self.parts.plan.total
            else f"going on from step {self.step}"
        )

    @property
    def task(self) -> str:
        """What is trained, in a word or two."""
        names = {"none": ""}
        method, alpha = (names.get(n, n) for n in (self.config.learnt_by, self.config.alpha.name))
        return " and ".join(filter(None, (method, "alpha" if alpha else "")))

    def batches(self) -> Iterator[Batch]:
        """This rank's batches from the present step on."""
        return (
            self.parts.loader(self.step) if self.rounds is None else self.rounds.batches(self.step)
        )

    def train(self) -> bool:
        """From the present step to the end. Returns whether the end was reached."""
        if self.alone:
            self._greet()
        if self.step < self.plan.total:
            batches = self.batches()  # makes the first bank, on which scores are calibrated
            if self.step == 0:
                self._probe(0)
                self._snapshot(0)
                if self.watch is not None:  # the proposals can be seen before they are trained on
                    self.watch.update()
            return self.advance(batches)
        return True

    def result(self, *, complete: bool) -> "Pretrained":
        """What the run has made so far."""
        rows = read_metrics(self.run / METRICS_NAME)
        scores = tuple(float(row["knn_top1"]) for row in rows if "knn_top1" in row)
        classes = len(self.probe.train.labels.unique()) if self.probe is not None else 0
        return Pretrained(
            run=self.run,
            complete=complete,
            step=self.step,
            steps=self.plan.total,
            images_seen=self.step * self.plan.batch,
            task=self.task,
            broken=tuple(self.parts.images.files[i] for i in sorted(self.broken)),
            broken_text=self._broken_summary() if self.broken else "",
            alpha=self.rounds is not None,
            neighbours=self.probe.k if self.probe is not None else 0,
            classes=classes,
            knn=scores if self.probe is not None else (),
            supervised=self.config.supervised,
        )

    def close(self) -> None:
        """Close the files that are written to, and leave the process group."""
        self.progress.end()
        if self.metrics is not None:
            self.metrics.file.close()
        self.parts.accelerator.end_training()

    # hooks of the loop

    def inputs(self, batch: Batch) -> tuple[int, list[Tensor] | Inputs]:
        """Views and composites on the device, normalised; in float."""
        self.broken |= set(batch.index[batch.index != batch.source].tolist())
        pairs = zip(batch.epoch.tolist(), batch.index.tolist(), strict=True)
        self.parts.module.begin_pass(batch.source, [(self.config.seed, *pair) for pair in pairs])
        mean, std = self.config.data.mean, self.config.data.std
        groups = []
        for pixels, drawn in zip(batch.images, batch.drawn, strict=True):
            pixels = pixels.to(self.device, non_blocking=True)
            if self.config.colour_on == "device":
                v, b = pixels.shape[:2]
                x = colour_batch(
                    pixels.flatten(0, 1).movedim(-1, 1) / 255, drawn.to(self.device).flatten(0, 1)
                )
                pixels = (x * 255).movedim(1, -1).unflatten(0, (v, b))
            x = normalise(pixels, mean=mean, std=std)
            groups.append(x if self.config.channels_last else x.contiguous())
        if batch.composites is None:
            return len(batch.index), groups
        composites = batch.composites.to(self.device)
        x = normalise(composites.image, mean=mean, std=std)
        return len(batch.index), Inputs(
            groups, x if self.config.channels_last else x.contiguous(), composites
        )

    def begin_step(self) -> None:
        self.parts.module.begin_step()

    def before_step(self, progress: float) -> None:
        self.parts.module.before_step(progress)

    def after_step(self, progress: float) -> None:
        self.parts.module.after_step(progress)

    # what the hooks do

    def judge(self, step: int, *, last: bool) -> bool:
        probed = last or due(step, self.probe_every)
        if probed:
            self._probe(step)
        shown = last or due(step, self.probe_every or self.save_every)
        if shown:
            self._snapshot(step)  # before the checkpoint, or a kill between them would lose it
        return probed or shown

    def log(self, outputs: dict[str, Tensor], timing: Timing, grad_norm: float) -> None:
        self._share_broken()
        plan = self.parts.plan
        embeddings = dist.gather_constant(outputs["embeddings"].float())[:512]
        terms = loss_terms(outputs)
        if self.metrics is None:
            return
        worth = {"spread": spread(embeddings), "rank": effective_rank(embeddings)}
        if self.config.log_measures:
            worth |= quick_measures(embeddings)
        row = self.row(terms, timing, grad_norm, worth)
        row |= self.parts.module.scheduled((self.step - 1) / plan.total)  # as the loop applied it
        self.record(row)
        self.progress.show(row, plan.total, force=self.step == plan.total)
        trivial = self.parts.module.trivial(plan.batch // self.config.accumulate)
        if self.step < 20 or trivial is None:
            return
        word = verdict(
            loss=terms.get("contrast", terms["loss"]),
            trivial=trivial,
            spread=row["spread"],
            rank=row["rank"],
            progress=self.step / plan.total,
            temperature=hasattr(self.config.method, "temperature"),
        )
        if word is not None and word.split(":")[0] != self.warned:
            self.progress.say(f"step {self.step}: {word}")
        self.warned = word.split(":")[0] if word is not None else None

    def _probe(self, step: int) -> None:
        with dist.together():
            if self.probe is None:
                return
            found = self.probe.measure(self._features)
            self.record(
                {
                    "step": step,
                    "images": step * self.parts.plan.batch,
                    "knn_top1": found.top1,
                    "knn_balanced": found.balanced,
                }
            )
            self.progress.say(
                f"step {step}: {self.probe.k}-nearest-neighbour accuracy {100 * found.top1:.1f}% "
                f"(balanced {100 * found.balanced:.1f}%)"
            )

    def _snapshot(self, step: int) -> None:
        """Keep what the alpha task finds, and a masked method predicts, in the same few images
        now."""
        with dist.together():
            if self.predictions is not None:
                self.predictions.take(step)
            if self.snapshots is not None and self.rounds is not None:
                self.snapshots.take(self.rounds.model(fitted=16, judged=16), step)

    def _features(self, images: LabelledImages) -> Float[Tensor, "n d"]:
        mean, std = self.config.data.mean, self.config.data.std
        encoder = self.parts.module.encoder
        # a resumed run compiles no probe before its training
        with torch.compiler.set_stance("force_eager"):
            return features(
                encoder, images.source, images.indices, size=self.parts.size, mean=mean, std=std
            )

    def _share_broken(self) -> None:
        """Bring the ranks' lists of broken images together; write and count them."""
        images, allowed = self.parts.images, self.config.data.max_broken
        mask = torch.zeros(len(images), device=self.device)
        mask[sorted(self.broken)] = 1
        self.broken = set(dist.total(mask).nonzero()[:, 0].tolist())
        new = sorted(self.broken - self.reasons.keys())
        if not new:
            return
        for i in new:
            self.reasons[i] = self.parts.source.reason(i)
        if self.main:
            lines = [f"{images.files[i]}\t{self.reasons[i]}\n" for i in sorted(self.broken)]
            write_text(self.run / BROKEN_NAME, "".join(lines))
            self.say(self._broken_summary())
        if len(self.broken) > self.config.data.may_be_broken(len(images)):
            raise ImageError(
                f"{len(self.broken)} of {len(images)} images cannot be read, more than "
                f"data.max_broken={allowed}; the first: {self.reasons[min(self.broken)]}. genseg "
                "scan lists them: mend or remove them, or raise data.max_broken"
            )

    def _broken_summary(self) -> str:
        """How many images are broken, and where it says which."""
        count = len(self.broken)
        data, images = self.config.data, len(self.parts.images)
        few = data.max_broken * images < count <= data.may_be_broken(images)
        why = (
            f"; more than data.max_broken={data.max_broken}, but {ALWAYS_BROKEN} may always be"
            if few
            else ""
        )
        return f"{amount(count, 'image')} cannot be read: see {self.run / 'broken.txt'}{why}"

    def save(self, step: int, *, ends: bool) -> None:
        self._share_broken()
        with dist.together():
            if self.main:
                # first: a kill between them must not leave a finished run without it
                self._export(step, ends=ends)
                state: dict[str, Any] = {"broken": sorted(self.broken)}
                if self.config.supervised:  # zero-shot reading asks which names training has had
                    state["classes"] = self.parts.images.classes
                self.save_checkpoint(step, {"module": self.parts.module}, state)

    def _export(self, step: int, *, ends: bool) -> None:
        """The encoder as it is now, in the formats that other libraries read."""
        c, parts = self.config, self.parts
        facts = EncoderFacts(
            encoder=c.encoder,
            method=c.learnt_by,
            mean=c.data.mean,
            std=c.data.std,
            size=parts.size,
            images_seen=step * parts.plan.batch,
            fingerprint=parts.fingerprint,
            genseg=__version__,
            reading=parts.images.reading,
        )
        save_encoder(parts.module.encoder, self.run / ENCODER_NAME, facts)
        save_timm_folder(self.run / ENCODER_NAME, self.run / TIMM)
        if self.rounds is not None and ends:
            self.rounds.save(step)  # not with each checkpoint: calibration takes seconds

    def _greet(self) -> None:
        p, c = self.parts, self.config
        self.say(
            f"{self.task}: {len(p.images)} images of {c.data.path}, {p.plan.total} steps of "
            f"{p.plan.batch} images, {c.encoder.name} at {p.size} px, {dist.world()} process(es), "
            f"precision {p.accelerator.mixed_precision}" + (f", {self.status}" if self.step else "")
        )
        if self.step == 0:
            for note in notes(p):
                self.say(note)
            if p.loaded is not None:
                self.say(f"encoder.weights: {p.loaded}")
