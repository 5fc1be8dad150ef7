"""Pretraining: from a folder of unlabelled images to an encoder, killed and resumed as often as it
happens."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from genseg import __version__
from genseg import config as configs
from genseg.core import dist
from genseg.core.files import write_text
from genseg.core.paths import expand
from genseg.core.words import amount
from genseg.data.composites.dataset import Batch
from genseg.data.images.pixels import normalise
from genseg.data.images.source import ImageError
from genseg.data.images.views import colour_batch
from genseg.joint import Inputs, Joint
from genseg.measure.features import features
from genseg.measure.representation import effective_rank, spread, verdict
from genseg.nn.encoder import WEIGHTS_NAME, EncoderFacts, save_encoder
from genseg.runs import checkpoint
from genseg.runs.folder import write_environment
from genseg.runs.metrics import METRICS_NAME, MetricsFile, ProgressLine, Row, read_metrics
from genseg.runs.resume import due, take
from genseg.train.loop import Timing, train
from genseg.train.optim import lr_at, restore_strides
from genseg.train.watch import Watcher
from genseg.workflows.evaluate.probe_sets import LabelledImages
from genseg.workflows.export.timm_folder import save_timm_folder
from genseg.workflows.pretrain.notes import notes
from genseg.workflows.pretrain.online_probe import build_probe
from genseg.workflows.pretrain.parts import (
    ALWAYS_BROKEN,
    FREE_KEYS,
    Parts,
    PretrainConfig,
    assemble,
    goes_on,
)
from genseg.workflows.pretrain.rounds import Rounds
from genseg.workflows.pretrain.snapshots import Snapshots


def pretrain(config: PretrainConfig, *, fresh: bool = False, watch: Watcher | None = None) -> bool:
    """Train, or go on where the run directory stands; True when the run is complete, False when it
    was interrupted.

    Leaves `config.yaml env.json metrics.jsonl broken.txt checkpoints/ encoder.safetensors timm/` in
    `config.run`, and what `watch` makes of them. Raises ValueError for what a user can mend,
    RuntimeError (non-finite loss, disk full) for what stopped the run.
    """
    run = expand(config.run)
    parts = assemble(config, begun=not fresh and goes_on(run, config))
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
            source=f"the images of {parts.config.data.path}",
        )
        with dist.together():
            if main and saved is None:
                # of a run that was stopped before its first checkpoint
                (run / "broken.txt").unlink(missing_ok=True)
            if main:
                write_environment(run, device=parts.accelerator.device, facts=parts.circumstances)
                # keys that are free may have changed
                write_text(run / "config.yaml", configs.to_yaml(parts.config))
        session = stack.enter_context(contextlib.closing(Session(parts, run, saved, watch)))
        done = session.train()
    if done and main:
        print(session.summary())
    if session.watch is not None:
        session.watch.done(complete=done)
    return done


class Session:
    """One process's part in a run: the hooks of the loop."""

    finished = False  # before its end

    def __init__(
        self,
        parts: Parts,
        run: Path,
        saved: tuple[dict[str, Tensor], dict[str, Any]] | None,
        watch: Watcher | None = None,
    ) -> None:
        self.parts, self.config, self.run = parts, parts.config, run
        self.main = parts.accelerator.is_main_process
        self.device = parts.accelerator.device
        self.step = 0
        self.broken: set[int] = set()
        self.reasons: dict[int, str] = {}
        if saved is not None:
            self._restore(*saved)
        self.broken |= parts.known_broken or set()
        plan, c = parts.plan, parts.config
        self.log_every = plan.steps(c.log_every)
        self.save_every = plan.steps(c.checkpoint.every)
        self.probe_every = plan.steps(c.probe.every)
        with dist.together():
            self.probe = (
                build_probe(c.probe, parts.source) if self.main and self.probe_every else None
            )
        self.metrics = MetricsFile(run / METRICS_NAME, self.step) if self.main else None
        self.progress = ProgressLine()
        if c.tensorboard:
            # what a kill has left of later steps comes again
            kept = {"tensorboard": {"purge_step": self.step + 1}}
            parts.accelerator.init_trackers("tensorboard", init_kwargs=kept)
        self.warned: str | None = None
        self.rounds = (
            Rounds(parts, run, self._record, self._say) if isinstance(parts.module, Joint) else None
        )
        with dist.together():
            self.snapshots = (
                Snapshots(run, self.rounds.source, self.step) if self.main and self.rounds else None
            )
        self.watch = watch(run, self._say) if self.main and watch else None

    @property
    def stands(self) -> str:
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
        method, alpha = (names.get(n, n) for n in (self.config.method.name, self.config.alpha.name))
        return " and ".join(filter(None, (method, "alpha" if alpha else "")))

    def batches(self) -> Iterator[Batch]:
        """This rank's batches from the present step on."""
        return (
            self.parts.loader(self.step) if self.rounds is None else self.rounds.batches(self.step)
        )

    def train(self) -> bool:
        """From the present step to the end. Returns whether the end was reached."""
        parts, c = self.parts, self.config
        self._greet()
        if self.step < parts.plan.total:
            batches = self.batches()  # makes the first bank, on which scores are calibrated
            if self.step == 0:
                self._probe(0)
                self._snapshot(0)
                if self.watch is not None:  # the proposals can be seen before they are trained on
                    self.watch.update()
            made = train(
                parts.wrapped,
                parts.optimizer,
                batches,
                parts.accelerator,
                self,
                plan=parts.plan,
                start=self.step,
                passes=c.accumulate,
                clip=c.optimizer.clip,
                seed=c.seed,
            )
            if made < parts.plan.total:
                self._share_broken()
                self._save(made, ends=True)
                self._say(f"interrupted after step {made}; the same command goes on from there")
                return False
        return True

    def summary(self) -> str:
        """What a finished run has made, and what its numbers mean."""
        plan = self.parts.plan
        text = f"{self.run / WEIGHTS_NAME}: {self.task}, {plan.total * plan.batch} images seen"
        if self.broken:
            text += f"; {self._told_broken()}"
        if self.rounds is not None:
            text += (
                f"\nInstance alpha maps of any folder: genseg generate {self.run} FOLDER --out DIR"
            )
        scores = [
            100 * row["knn_top1"]
            for row in read_metrics(self.run / METRICS_NAME)
            if "knn_top1" in row
        ]
        if self.probe is None or len(scores) < 2:
            return text
        return (
            f"{text}\nOf 100 labelled images, {scores[-1]:.0f} now get the right class from the "
            f"{self.probe.k} images "
            f"that the encoder finds most alike.\nBefore training it was {scores[0]:.0f}, by "
            "chance it is "
            f"{100 / len(self.probe.train.labels.unique()):.0f}. Training has seen no label."
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

    def learning_rate(self, step: int) -> float:
        return lr_at(self.config.optimizer, self.parts.plan, step)

    def begin_step(self) -> None:
        self.parts.module.begin_step()

    def before_step(self, progress: float) -> None:
        self.parts.module.before_step(progress)

    def after_step(self, progress: float) -> None:
        self.parts.module.after_step(progress)

    def measured(
        self, step: int, outputs: dict[str, Tensor], timing: Timing, grad_norm: float
    ) -> None:
        """Log, probe and save at their intervals, and at the end."""
        self.step = step
        last = step == self.parts.plan.total
        if due(step, self.log_every) or step == 1 or last:
            self._share_broken()
            self._log(outputs, timing, grad_norm)
            if self.watch is not None and not last:
                self.watch.update()
            timing.reset()
        if last or due(step, self.probe_every):
            self._probe(step)
            timing.reset()
        if last or due(step, self.probe_every or self.save_every):
            self._snapshot(step)  # before the checkpoint, or a kill between them would lose it
            timing.reset()
        if last or due(step, self.save_every):
            self._share_broken()
            self._save(step, ends=last)
            timing.reset()

    # what the hooks do

    def _log(self, outputs: dict[str, Tensor], timing: Timing, grad_norm: float) -> None:
        plan = self.parts.plan
        embeddings = dist.gather_constant(outputs["embeddings"].float())[:512]
        terms = {k: float(dist.mean(v.detach())) for k, v in outputs.items() if v.numel() == 1}
        if self.metrics is None:
            return
        rate = timing.images / timing.seconds
        row: Row = {
            "step": self.step,
            "epoch": round(self.step / plan.steps_per_epoch, 4),
            "images": self.step * plan.batch,
            **terms,
            "spread": spread(embeddings),
            "rank": effective_rank(embeddings),
            "grad_norm": grad_norm,
            "lr": self.learning_rate(self.step - 1),
            "images_per_second": rate,
            "data_wait": timing.waiting / timing.seconds,
            "eta_seconds": (plan.total - self.step) * plan.batch / rate,
        }
        # as the loop has applied it
        row |= self.parts.module.scheduled((self.step - 1) / plan.total)
        self._record(row)
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
            self._record(
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
        """Keep what the alpha task finds in the same few images now."""
        with dist.together():
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

    def _record(self, row: Row) -> None:
        assert self.metrics is not None
        self.metrics.write(row)
        if self.config.tensorboard:
            self.parts.accelerator.log(
                {k: v for k, v in row.items() if k != "step"}, step=int(row["step"])
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
            write_text(self.run / "broken.txt", "".join(lines))
            self._say(self._told_broken())
        if len(self.broken) > self.config.data.may_be_broken(len(images)):
            raise ImageError(
                f"{len(self.broken)} of {len(images)} images cannot be read, more than "
                f"data.max_broken={allowed}; "
                f"the first: {self.reasons[min(self.broken)]}. genseg scan lists them: mend or "
                "remove them, or raise "
                "data.max_broken"
            )

    def _told_broken(self) -> str:
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

    def _save(self, step: int, *, ends: bool) -> None:
        """Write a checkpoint; of a training that ends here, all that it leaves behind."""
        with dist.together():
            if self.main:
                self._write(step, ends=ends)

    def _write(self, step: int, *, ends: bool) -> None:
        scaler = self.parts.accelerator.scaler
        tensors, structure = checkpoint.flatten(
            {
                "module": self.parts.module.state_dict(),
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
            "broken": sorted(self.broken),
        }
        # first: a kill between them must not leave a finished run without it
        self._export(step, ends=ends)
        checkpoint.save(self.run, step, tensors, state, keep=self.config.checkpoint.keep)

    def _restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        content = checkpoint.unflatten(tensors, state["structure"])
        self.parts.module.load_state_dict(content["module"])
        self.parts.optimizer.load_state_dict(content["optimizer"])
        restore_strides(self.parts.optimizer)
        if self.parts.accelerator.scaler and content["scaler"]:
            self.parts.accelerator.scaler.load_state_dict(content["scaler"])
        self.step = int(state["step"])
        self.broken = set(state["broken"])

    def _export(self, step: int, *, ends: bool) -> None:
        """The encoder as it is now, in the formats that other libraries read."""
        c, parts = self.config, self.parts
        facts = EncoderFacts(
            encoder=c.encoder,
            method=c.method.name,
            mean=c.data.mean,
            std=c.data.std,
            size=parts.size,
            images_seen=step * parts.plan.batch,
            fingerprint=parts.fingerprint,
            genseg=__version__,
        )
        save_encoder(parts.module.encoder, self.run / WEIGHTS_NAME, facts)
        save_timm_folder(self.run / WEIGHTS_NAME, self.run / "timm")
        if self.rounds is not None and ends:
            self.rounds.save(step)  # not with each checkpoint: calibration takes seconds

    def _greet(self) -> None:
        p, c = self.parts, self.config
        self._say(
            f"{self.task}: {len(p.images)} images of {c.data.path}, {p.plan.total} steps of "
            f"{p.plan.batch} images, "
            f"{c.encoder.name} at {p.size} px, {dist.world()} process(es), precision "
            f"{p.accelerator.mixed_precision}" + (f", {self.stands}" if self.step else "")
        )
        if self.step == 0:
            for note in notes(p):
                self._say(note)
            if p.loaded is not None:
                self._say(f"encoder.weights: {p.loaded}")

    def _say(self, text: str) -> None:
        if self.main:
            self.progress.say(text)
