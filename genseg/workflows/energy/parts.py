"""The parts of a run that shapes an energy, assembled top to bottom from its config."""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from genseg.alpha.model import AlphaModel
from genseg.core import dist
from genseg.core.paths import expand
from genseg.core.schedule import Plan
from genseg.data.composites.composer import Composer
from genseg.energies.draws import Draws
from genseg.energies.finish import check_enough
from genseg.energies.material import PAIRS, Material, material, paired
from genseg.energies.model import digest
from genseg.energies.shaping import Examples, Shaping
from genseg.energies.strategies import build_energy, build_shaping
from genseg.runs.resume import described
from genseg.train.machine import circumstances, make_accelerator, prepare
from genseg.train.optim import build_optimizer
from genseg.workflows.energy.config import EnergyConfig
from genseg.workflows.energy.decoders import DecoderRun, composer_of, decoder_run
from genseg.workflows.pretrain.rounds import progress

WARM, TIMED = 2, 6  # steps that are made, and timed, to learn what a step takes
FEWEST = 20  # steps of a run, however short the time


@dataclass
class EnergyParts:
    """Everything that a run is made of. run: the one whose decoder draws the maps; judged: the
    composites that are not trained on; pairs: more of them, of which every two show some
    cut-outs alike."""

    config: EnergyConfig
    accelerator: Accelerator
    run: DecoderRun
    digest: str
    composer: Composer
    material: Material
    judged: Material
    pairs: Material
    fingerprint: str
    plan: Plan
    module: Shaping
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer

    @property
    def circumstances(self) -> dict[str, Any]:
        """What is not in the config and changes the weights that come out."""
        return circumstances("no")

    @property
    def described(self) -> dict[str, Any]:
        """All that decides the run's weights beside its data, as its checkpoints keep it."""
        return described(self.config, self.circumstances)

    def batches(self, start: int) -> Iterator[Examples]:
        """This rank's batches from update `start` to the end."""
        for step in range(start, self.plan.total):
            yield self.batch(step)

    def batch(self, step: int) -> Examples:
        """This rank's part of the batch of an update: as much of the whole as there are ranks."""
        c = self.config
        rng = np.random.default_rng([c.seed, step, *b"images"])
        chosen = rng.choice(len(self.material), c.batch_size, replace=False)
        mine = chosen[dist.rank() :: dist.world()].tolist()
        draws = Draws(c.seed, step, mine)
        return self.material.examples(mine, draws, step / self.plan.total, maps=c.maps, own=c.own)


def assemble_energy(config: EnergyConfig) -> EnergyParts:
    """Build all parts of a run. Raises ValueError for what a user can mend."""
    if config.threads:
        torch.set_num_threads(config.threads)
    accelerator = make_accelerator(precision="no", run=config.run)
    if config.batch_size % accelerator.num_processes:
        raise ValueError(
            f"batch_size={config.batch_size} has to divide into {accelerator.num_processes} "
            "processes"
        )
    if config.batch_size > config.composites:
        raise ValueError(
            f"batch_size={config.batch_size} is more than composites={config.composites}"
        )
    run = decoder_run(expand(config.alpha), accelerator.device)
    composer, content = composer_of(run, config.data)
    name = digest(run.file)
    key = f"{name}-{content}"
    with dist.together():
        if accelerator.is_main_process:  # makes it; the others read it
            _made(run.model, composer, config, key)
    whole, pairs = _made(run.model, composer, config, key)
    if not len(whole.image):
        raise ValueError(
            f"{run.file}: its composites show no instance, so there is nothing to learn; look at "
            "the labels, or the proposals, that they are made of"
        )
    torch.manual_seed(config.seed % 2**63)
    c = run.decoder.config
    sizes = {"embedding": c.embedding, "code": c.code}
    energy = build_energy(config.shape, run.decoder, config.autoencoder, **sizes)
    sample = whole.embeddings[: min(len(whole), 256)]
    energy.observe(sample)
    check_enough(energy, whole.part(0, config.composites))  # now, and not after the training
    module = build_shaping(config.shape, energy)
    module.to(accelerator.device)
    plan = Plan(images=config.composites, batch=config.batch_size, total=config.steps)
    optimizer = build_optimizer(config.optimizer, module, plan)
    wrapped, optimizer = prepare(accelerator, module, optimizer)
    return EnergyParts(
        config=config,
        accelerator=accelerator,
        run=run,
        digest=name,
        composer=composer,
        material=whole.part(0, config.composites),
        judged=whole.part(config.composites, config.composites + config.judged),
        pairs=pairs,
        fingerprint=key,
        plan=plan,
        module=module,
        wrapped=wrapped,
        optimizer=optimizer,
    )


def _made(
    model: AlphaModel, composer: Composer, config: EnergyConfig, key: str
) -> tuple[Material, Material]:
    """What is trained on and judged by, and the pairs."""

    def made(composer: Composer, count: int, key: str) -> Material:
        return material(
            model,
            composer,
            len(composer.source),
            count,
            key=key,
            seed=config.seed,
            progress=progress,
        )

    whole = made(composer, config.composites + config.judged, key)
    return whole, made(paired(composer), PAIRS, f"{key}-pairs")


def timed(parts: EnergyParts, minutes: float) -> int:
    """How many steps take so many minutes here: a few are made with a copy."""
    module = copy.deepcopy(parts.module)
    start = 0.0
    for step in range(WARM + TIMED):
        if step == WARM:
            start = time.perf_counter()
        module(parts.batch(step).to(parts.accelerator.device))["loss"].backward()
    seconds = (time.perf_counter() - start) / TIMED
    return max(FEWEST, math.floor(60 * minutes / seconds))


def with_steps(parts: EnergyParts, steps: int) -> EnergyParts:
    """The same run with another length."""
    config = replace(parts.config, steps=steps, minutes=None)
    plan = Plan(images=parts.plan.images, batch=parts.plan.batch, total=steps)
    return replace(parts, config=config, plan=plan)
