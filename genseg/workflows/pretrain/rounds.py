"""The alpha task within a pretraining run: banks of proposals, rounds, and the model that is left
behind."""

import contextlib
import copy
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from genseg.alpha.mine import Mined, mine
from genseg.alpha.model import AlphaModel, Look, save_alpha, snapshot
from genseg.core import dist
from genseg.core.names import ALPHA_NAME, BANKS, ENERGY_NAME, METRICS_NAME
from genseg.core.threads import in_order, several_at_once
from genseg.data.composites.bank import Bank, build_bank, load_bank, save_bank
from genseg.data.composites.composer import Composer
from genseg.data.composites.dataset import Batch
from genseg.data.images.cache import cache_folder
from genseg.data.images.source import ImageSource
from genseg.data.instances.instance import Instance, whole_ones
from genseg.data.proposals.component_tree import MIN_AREA
from genseg.data.proposals.propose import TAUGHT, propose
from genseg.data.proposals.scale import other_recipe
from genseg.energies.autoencoder import Autoencoder
from genseg.energies.finish import Finished, finished, lacking
from genseg.energies.head import EnergyHead
from genseg.energies.material import composed, joined, paired
from genseg.energies.model import EnergyFacts, digest, save_energy
from genseg.energies.use import Ranker, UseConfig
from genseg.joint import AlphaConfig, Joint, SlotsConfig
from genseg.nn.teacher import Teacher, load_teacher
from genseg.runs.metrics import Row, read_metrics
from genseg.workflows.pretrain.calibrate import JUDGED, calibrated
from genseg.workflows.pretrain.parts import Parts

_Work = TypeVar("_Work")
VERSION = 3  # of the proposals: other numbers come out of other code
FITTED = 256  # images, at most, whose statistics the batch norms get for generation
HARDLY = 0.5  # sure proposals an image below which a word is due
SURE = 0.99  # hardly any score, before it is calibrated, is higher


class Rounds:
    """The rounds of a run: which steps they have, the bank of each, and batches with composites.

    Banks are kept in the run directory. A round's bank is a function of the weights at its first
    step, so a run that is killed and goes on makes or finds the same.
    """

    def __init__(
        self, parts: Parts, run: Path, record: Callable[[Row], None], say: Callable[[str], None]
    ) -> None:
        assert isinstance(parts.module, Joint) and parts.composed is not None
        self.parts, self.folder, self.record, self.say = parts, run / BANKS, record, say
        self.config: AlphaConfig = parts.module.config
        self.source: ImageSource = parts.composed
        total, count = parts.plan.total, self.config.rounds.count
        # a round has a step or is none
        self.bounds = sorted({round(total * i / count) for i in range(count + 1)})

    def batches(self, start: int) -> Iterator[Batch]:
        """This rank's batches from update `start` on; between two rounds the bank is renewed."""
        with dist.together():
            if self.parts.accelerator.is_main_process:
                for number, first in enumerate(self.bounds):
                    if first > start:  # of a later checkpoint that was lost
                        self._file(number).unlink(missing_ok=True)
                if start == 0:  # now, and not at the first step, whose time is measured
                    self._provide(0, step=0)
        return self._batches(start)

    def _batches(self, start: int) -> Iterator[Batch]:
        c = self.config
        for number, (first, last) in enumerate(zip(self.bounds, self.bounds[1:], strict=False)):
            if start < last:
                with dist.together():
                    if self.parts.accelerator.is_main_process:
                        self._provide(number, step=max(first, start))
                bank = load_bank(self._file(number))
                composer = Composer(
                    self.source, bank, c.compose, share=c.share, seed=self.parts.config.seed
                )
                yield from self.parts.loader(max(first, start), last, composer)

    def _file(self, number: int) -> Path:
        return self.folder / f"{number}.npz"

    def _provide(self, number: int, *, step: int) -> None:
        """Make the bank of a round unless it is there."""
        file = self._file(number)
        if file.exists():
            return
        self.folder.mkdir(exist_ok=True)
        if isinstance(self.config, SlotsConfig):
            bank = build_bank([[] for _ in range(len(self.source))])
        elif number == 0:
            bank = first_bank(
                self.parts.fingerprint,
                self.source,
                self.config,
                workers=self.parts.config.data.workers,
            )
            sure = _sure(bank, self.config)
            self.say(
                f"proposals: {len(bank)} by {self.config.proposals} in {len(self.source)} images, "
                f"{sure} sure"
            )
            if self.config.compose.pasted[1] and sure < HARDLY * len(self.source):
                self.say(f"hardly any proposal is sure. {other_recipe(self.config.proposals)}")
        else:
            bank = self._mined(number, step)
        save_bank(bank, file)

    def _mined(self, number: int, step: int) -> Bank:
        """The bank that the model proposes, or the former one if the model's word is no better."""
        before = load_bank(self._file(number - 1))
        model, c = self.model(), self.config
        if c.rounds.critic != "look":
            joint = self.parts.module
            assert isinstance(joint, Joint) and joint.energy is not None
            self._rank(joint.energy, model)
        # doubtful ones are proposals to ignore
        model.config = replace(model.config, score=model.config.score / 2)
        # the images are shrunk already, and the second look shall be larger
        model.look = replace(model.look, side=0)
        found = [[before[k] for k in before.of_image(i)] for i in range(len(self.source))]
        agreements: list[float] = []
        drawn = np.random.default_rng([self.parts.config.seed, number, *b"mined"]).permutation(
            len(self.source)
        )
        todo = sorted(drawn[: c.rounds.images or None].tolist())

        def look(i: int) -> Mined | None:
            image, at = self.source.read(i)
            if at != i:  # another stands in for a broken one
                return None
            # doubtful ones are ignored
            sure, doubtful = c.compose.sure, min(c.compose.sure, c.compose.native)
            return mine(
                model,
                image,
                found[i],
                sure=sure,
                doubtful=doubtful,
                agreement=c.rounds.agreement,
                twice=c.rounds.critic != "energy",
            )

        with several_at_once(model.device) as looking:
            made = in_order(looking, look, progress(todo, f"round {number + 1}"))
            for i, mined in zip(todo, made, strict=True):
                if mined is not None:
                    whole = whole_ones(mined.proposals, self.source.absent(i))
                    found[i] = [a for a in whole if a.area >= c.min_area]
                    agreements += [] if mined.agreement is None else [mined.agreement]
        agreement = float(np.mean(agreements)) if agreements else 0.0
        return self._better(before, build_bank(found), agreement, number, step)

    def _better(self, before: Bank, bank: Bank, agreement: float, number: int, step: int) -> Bank:
        """The new bank, unless two looks agree less than in the rounds before or too little is
        sure; what speaks for it is logged."""
        c = self.config
        sure, former = (int((b.scores >= c.compose.sure).sum()) for b in (bank, before))
        rows = {
            r["round"]: r for r in read_metrics(self.folder.parent / METRICS_NAME) if "round" in r
        }
        least = (
            max((r["agreement"] for n, r in rows.items() if n < number), default=0.0)
            - c.rounds.tolerance
        )
        looked = c.rounds.critic != "energy"  # twice at each image
        adopted = (agreement >= least or not looked) and sure >= former / 2
        if number not in rows:
            self.record(
                {
                    "step": step,
                    "round": number,
                    "sure": sure,
                    "proposals": len(bank),
                    "agreement": agreement,
                }
            )
        self.say(
            f"step {step}: round {number + 1}: {sure} sure proposals of {len(bank)} (before: "
            f"{former} of {len(before)}); two looks at an image agree by {100 * agreement:.1f} %"
            + ("" if adopted else ": no better, so the former proposals stay")
        )
        return bank if adopted else before

    def model(self, *, fitted: int = FITTED, judged: int = JUDGED) -> AlphaModel:
        """A copy of encoder and decoder as they are now, made ready for generation: batch norms
        fitted to so many images of the run, scores calibrated on so many composites of the first
        proposals."""
        joint, p = self.parts.module, self.parts.config
        assert isinstance(joint, Joint)
        stretched, words = self.config.compose.stretch, self.parts.images.reading
        look = Look(p.data.mean, p.data.std, self.config.side, stretched, words)
        model = snapshot(joint.encoder, joint.decoder, look, self.config.generate)
        model.precision = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(
            self.parts.accelerator.mixed_precision, torch.float32
        )
        chosen = np.random.default_rng(0).permutation(len(self.source))[:fitted]
        model.fit_norms(
            (self.source.read(int(i))[0] for i in chosen), size=2 * self.config.compose.size
        )
        if not isinstance(self.config, SlotsConfig):  # slots have no composites
            model.calibration = calibrated(model, self._composer(), judged)
        return model

    def _composer(self) -> Composer:
        """Composites of the first proposals: those of later rounds are the model's own word."""
        bank, seed = load_bank(self._file(0)), self.parts.config.seed
        return Composer(self.source, bank, self.config.compose, share=1.0, seed=seed)

    def save(self, step: int) -> None:
        """Leave `alpha.safetensors` in the run directory."""
        p = self.parts
        model, least = self.model(), self.config.generate.score
        if (likeliest := model.calibration.probability(SURE)) < least:
            self.say(
                f"alpha maps: in composites no instance is right more often than {likeliest:.2g}, "
                f"so from alpha.generate.score={least:g} on nothing is left; train longer, or "
                "give a lower --score"
            )
        save_alpha(
            model,
            self.folder.parent / ALPHA_NAME,
            p.config.encoder,
            method=p.config.learnt_by,
            images_seen=step * p.plan.batch,
            fingerprint=p.fingerprint,
        )
        if isinstance(p.module, Joint) and p.module.energy is not None:
            self._save_energy(p.module.energy, model)

    def _save_energy(self, head: EnergyHead, model: AlphaModel) -> None:
        """Leave `energy.safetensors` beside it."""
        run = self.folder.parent
        energy, found = self._rank(head, model)
        facts = EnergyFacts(
            shape=head.task.shape,
            autoencoder=head.task.autoencoder,
            decoder=self.config.decoder,
            alpha=digest(run / ALPHA_NAME),
            ranking=found.ranked.ranking,
            calibration=model.calibration,
        )
        save_energy(energy, run / ENERGY_NAME, facts)
        for said in found.judgement.cheats():
            self.say(f"warning: {said}")

    def _finished(self, head: EnergyHead, model: AlphaModel) -> tuple[Autoencoder, Finished]:
        """A copy of the energy as it is now, finished on composites that training has not seen."""
        shaping, seed = copy.deepcopy(head.shaping), self.parts.config.seed
        made = composed(model, self._composer(), len(self.source), 3 * JUDGED, seed=seed)
        # whitened as generation sees embeddings: training has followed those of its batches
        shaping.model.observe(made.embeddings.to(model.device))
        first, judged = made.part(0, JUDGED), made.part(JUDGED, 3 * JUDGED)
        trained, count = first, 3 * JUDGED
        while (more := lacking(shaping.model, trained)) > 0:
            count += more
            made = composed(model, self._composer(), len(self.source), count, seed=seed)
            trained = joined([first, made.part(3 * JUDGED, count)])
        pairs = composed(model, paired(self._composer()), len(self.source), JUDGED, seed=seed)
        return shaping.model, finished(shaping, trained, judged, pairs, UseConfig(), seed=seed)

    def _rank(self, head: EnergyHead, model: AlphaModel) -> tuple[Autoencoder, Finished]:
        """Let the energy, as it is now, rank what the model finds."""
        energy, found = self._finished(head, model)
        model.rank = Ranker(energy, found.ranked.ranking, UseConfig())
        model.calibration = calibrated(model, self._composer(), JUDGED)
        return energy, found


class _Proposed(Dataset[list[Instance]]):
    """The proposals of each image."""

    def __init__(
        self, source: ImageSource, config: AlphaConfig, teacher: Teacher | None = None
    ) -> None:
        self.source, self.name, self.teacher = source, config.proposals, teacher
        # larger ones are a matter of choice, in `first_bank`
        self.min_area = min(config.min_area, MIN_AREA)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> list[Instance]:
        image, at = self.source.read(i)
        # a broken image has none
        if at != i:
            return []
        found = propose(self.name, image, min_area=self.min_area, teacher=self.teacher)
        return whole_ones(found, self.source.absent(i))


def first_bank(fingerprint: str, source: ImageSource, config: AlphaConfig, *, workers: int) -> Bank:
    """The proposals of all images before any training, kept in the user's cache for the next
    run."""
    teacher = None
    name = f"{fingerprint}-{config.side}-{config.proposals}-{config.min_area}-{VERSION}"
    if config.proposals in TAUGHT:
        assert config.teacher is not None  # AlphaConfig
        teacher = load_teacher(config.teacher, name=config.teacher_name)
        teacher.to("cuda" if torch.cuda.is_available() else "cpu")
        name += f"-{teacher.key}"
    kept = cache_folder() / "proposals" / f"{name}.npz"
    with contextlib.suppress(ValueError):  # a damaged file is made anew
        if kept.exists():
            return load_bank(kept)
    proposed = _Proposed(source, config, teacher)
    if teacher is None:
        loader = DataLoader(proposed, batch_size=None, num_workers=workers)
        found = list(progress(loader, f"proposals by {config.proposals}"))
    else:  # a network, whose memory processes would not share
        todo = progress(range(len(source)), f"proposals by {config.proposals}")
        with several_at_once(teacher.device) as looking:
            found = list(in_order(looking, proposed.__getitem__, todo))
    bank = build_bank([[a for a in many if a.area >= config.min_area] for many in found])
    kept.parent.mkdir(parents=True, exist_ok=True)
    save_bank(bank, kept)
    return bank


def _sure(bank: Bank, config: AlphaConfig) -> int:
    """How many proposals may be pasted. Raises ValueError when there is none: nothing could be
    learnt."""
    c = config.compose
    sure = int((bank.scores >= c.sure).sum())
    if sure or not c.pasted[1]:
        return sure
    if not len(bank):
        raise ValueError(
            f"alpha.proposals={config.proposals}: nothing is proposed in any image, so there is "
            "nothing to paste; try alpha.proposals=blobs alpha.compose.sure=0, or a smaller "
            f"alpha.min_area. {other_recipe(config.proposals)}"
        )
    raise ValueError(
        f"alpha.compose.sure={c.sure}: none of {len(bank)} proposals by {config.proposals} scores "
        f"so much (the best {bank.scores.max():.2f}), so there is nothing to paste; set "
        f"alpha.compose.sure lower. {other_recipe(config.proposals)}"
    )


def progress(work: _Work, what: str) -> _Work:
    """`work` with a line that shows how far it is, every half minute where nobody looks on."""
    return tqdm(
        work, desc=what, unit=" images", leave=False, mininterval=0.5 if sys.stderr.isatty() else 30
    )
