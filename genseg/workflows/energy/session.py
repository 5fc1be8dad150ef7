"""One process's part in a run that shapes an energy, and what it leaves."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from genseg.core import dist
from genseg.core.names import ENERGY_NAME, METRICS_NAME
from genseg.core.result import Result
from genseg.energies.corrupt import KINDS
from genseg.energies.finish import finished, scenes
from genseg.energies.judge import Judgement, judge
from genseg.energies.model import EnergyFacts, save_energy
from genseg.energies.shaping import Examples
from genseg.energies.use import Ranker, Ranking
from genseg.runs.metrics import ProgressLine, read_metrics
from genseg.runs.resume import Saved, due
from genseg.train.loop import Timing
from genseg.train.session import Session, loss_terms
from genseg.train.watch import Watcher
from genseg.workflows.energy.decoders import note_on
from genseg.workflows.energy.parts import EnergyParts
from genseg.workflows.pretrain.calibrate import JUDGED, calibrated

GLANCE = 32  # composites on which an energy is judged during training


@dataclass(frozen=True)
class Shaped(Result):
    """A run that has shaped an energy.

    complete: the end was reached; else the same command goes on
    step, steps: updates made, and planned
    judgement: on composites that it has not seen
    ranking: how it ranks the decoder's own instances
    spearman: rank correlation of their overlap with an object: with the decoder's score, and with
        the ranking's; on composites that the ranking was not fitted to
    next: the command that ranks by it
    """

    run: Path
    complete: bool
    step: int
    steps: int
    shape: str
    maps_seen: int = 0
    judgement: Judgement | None = None
    ranking: Ranking | None = None
    spearman: tuple[float, float] = (0.0, 0.0)
    cheats: tuple[str, ...] = field(default=())
    next: str = "generate"

    @property
    def energy(self) -> Path:
        """The weights."""
        return self.run / ENERGY_NAME

    def text(self) -> str:
        if not self.complete or self.judgement is None:
            return f"{self.run}: {self.step} of {self.steps} steps; the same command goes on"
        j, (before, after) = self.judgement, self.spearman
        kinds = ", ".join(f"{kind} {value:.3f}" for kind, value in j.separation.items())
        lines = [
            f"{self.energy}: {self.shape}, {self.maps_seen:,} maps seen",
            f"Of a true and a corrupted map it finds the true one {100 * j.mean_separation:.1f} "
            f"times in 100 ({kinds}).",
            *(
                []
                if math.isnan(j.reconstruction)
                else [
                    f"Reconstruction {j.reconstruction:.3f}; copy {j.copy:.3f}, ignore "
                    f"{j.ignore:.3f} (both low where the code says which instance), moved "
                    f"{j.moved:.3f} (high where it says so wherever that lies)."
                ]
            ),
            "Of the decoder's own instances too few were found, or all are alike: they have no "
            "rank correlation."
            if math.isnan(before) or math.isnan(after)
            else f"The decoder's own instances: rank correlation with their overlap {before:.3f} "
            f"by the decoder's score, {after:.3f} with the energy.",
            *(f"warning: {said}" for said in self.cheats),
            f"Next: genseg {self.next} RUN FOLDER --energy {self.run} --out DIR",
        ]
        return "\n".join(lines)


class EnergySession(Session):
    """The hooks of a run that shapes an energy."""

    progress: ProgressLine

    def __init__(
        self, parts: EnergyParts, run: Path, saved: Saved | None, watch: Watcher | None
    ) -> None:
        self.parts, self.module = parts, parts.module
        super().__init__(parts, run, progress=ProgressLine(), watch=watch)
        if saved is not None:
            self.restore(saved, {"module": parts.module})
        self.judge_every = parts.plan.steps(parts.config.judge_every)
        self.open_metrics()

    def batches(self) -> Iterator[Examples]:
        return self.parts.batches(self.step)

    def train(self) -> bool:
        """From the present step to the end. Returns whether the end was reached."""
        p = self.parts
        status = "" if not self.step else f", going on from step {self.step}"
        self.say(
            f"{p.config.shape.name}: {len(p.material)} composites, {len(p.material.image)} true "
            f"maps, {len(p.material.own)} of the decoder's own, {p.plan.total} steps of "
            f"{p.plan.batch} composites, {dist.world()} process(es){status}"
        )
        if note := note_on(p.run):
            self.say(f"note: {note}")
        if self.step < self.plan.total:
            return self.advance(self.batches())
        return True

    def inputs(self, batch: Examples) -> tuple[int, Examples]:
        return len(batch.embeddings), batch.to(self.device)

    def begin_step(self) -> None:
        self.module.train()

    def before_step(self, progress: float) -> None:
        """Nothing is done between the gradients and the step."""

    def after_step(self, progress: float) -> None:
        self.parts.module.after_step()

    def judge(self, step: int, *, last: bool) -> bool:
        if last or not due(step, self.judge_every):
            return False
        with dist.together():
            if self.metrics is not None:
                row = _row(self._judged(GLANCE))
                self.metrics.write({"step": step, **row})
                names = ("auroc", "reconstruction", "copy", "ignore")
                known = ", ".join(f"{n} {row[n]:.3f}" for n in names if n in row)
                self.say(f"step {step}: {known}")
        return True

    def log(self, outputs: dict[str, Tensor], timing: Timing, grad_norm: float) -> None:
        terms = loss_terms(outputs)
        if self.metrics is not None:
            row = self.row(terms, timing, grad_norm)
            self.metrics.write(row)
            self.progress.show(row, self.plan.total, force=self.step == self.plan.total)

    def save(self, step: int, *, ends: bool) -> None:
        with dist.together():
            if self.main:
                self.save_checkpoint(step, {"module": self.parts.module}, {})

    def close(self) -> None:
        self.progress.end()
        super().close()

    # the end

    def _judged(self, count: int) -> Judgement:
        energy = self.parts.module.model.eval()
        found = judge(energy, scenes(self.parts.judged, 0, count, self.device))
        self.parts.module.train()
        return found

    def result(self, *, complete: bool) -> Shaped:
        """Fit what is fitted after training, judge, and leave the energy."""
        p = self.parts
        c = p.config
        head = {"run": self.run, "step": self.step, "steps": p.plan.total, "shape": c.shape.name}
        if not complete or not self.main:
            return Shaped(**head, complete=complete)
        made = finished(p.module, p.material, p.judged, p.pairs, c.use, seed=c.seed)
        ranked, judgement = made.ranked, made.judgement
        p.run.model.rank = Ranker(p.module.model, ranked.ranking, c.use)
        facts = EnergyFacts(
            shape=c.shape,
            autoencoder=c.autoencoder,
            decoder=p.run.decoder.config,
            alpha=p.digest,
            ranking=ranked.ranking,
            calibration=calibrated(p.run.model, p.composer, min(JUDGED, c.judged)),
            use=c.use,
            maps_seen=self._maps_seen(),
        )
        save_energy(p.module.model, self.run / ENERGY_NAME, facts)
        if self.metrics is not None:
            rows = read_metrics(self.run / METRICS_NAME)
            if not any("auroc_last" in row for row in rows):
                last = {f"{name}_last": value for name, value in _row(judgement).items()}
                self.metrics.write({"step": self.step, **last})
        return Shaped(
            **head,
            complete=True,
            maps_seen=facts.maps_seen,
            judgement=judgement,
            ranking=ranked.ranking,
            spearman=ranked.spearman,
            cheats=tuple(judgement.cheats()),
            next="generate" if p.run.preparation is None else "predict",
        )

    def _maps_seen(self) -> int:
        """True maps that steps have seen, about: those of a composite, as far as they are taken."""
        p = self.parts
        counts = torch.bincount(p.material.image, minlength=len(p.material))
        taken = counts.clamp_max(p.config.maps).float().mean()
        return round(float(taken) * p.plan.batch * p.plan.total)


def _row(found: Judgement) -> dict[str, float]:
    """A judgement as a line of metrics.jsonl."""
    row = {
        "auroc": found.mean_separation,
        "reconstruction": found.reconstruction,
        "copy": found.copy,
        "ignore": found.ignore,
        "moved": found.moved,
        "code": found.code,
        **{f"auroc_{kind}": found.separation[kind] for kind in KINDS},
    }
    return {name: value for name, value in row.items() if not math.isnan(value)}
