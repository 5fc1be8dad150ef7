"""The parts of a run that shapes an energy, assembled top to bottom from its config."""

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from genseg import config as configs
from genseg.alpha.decoder import AlphaDecoder
from genseg.alpha.model import AlphaModel, load_alpha
from genseg.core import dist
from genseg.core.names import BANKS, CONFIG_NAME
from genseg.core.paths import expand
from genseg.core.precision import fast_precision
from genseg.core.schedule import Plan
from genseg.data.composites.bank import load_bank
from genseg.data.composites.composer import Composer
from genseg.data.images.files import fingerprint, list_images
from genseg.data.regions.opened import in_windows, source_of
from genseg.data.scenes.scenes import default_scenes
from genseg.energies.draws import Draws
from genseg.energies.maps import check_grids
from genseg.energies.material import PAIRS, Material, material, paired
from genseg.energies.model import digest
from genseg.energies.shaping import Examples, Shaping
from genseg.energies.strategies import build_energy, build_shaping
from genseg.runs.resume import described
from genseg.train.machine import circumstances, make_accelerator, prepare
from genseg.train.optim import build_optimizer
from genseg.workflows.energy.config import EnergyConfig
from genseg.workflows.generate.finder import alpha_file
from genseg.workflows.pretrain import config as pretrained
from genseg.workflows.pretrain.parts import read_cache
from genseg.workflows.pretrain.rounds import first_bank, progress

WARM, TIMED = 2, 6  # steps that are made, and timed, to learn what a step takes
FEWEST = 20  # steps of a run, however short the time


@dataclass
class EnergyParts:
    """Everything that a run is made of. decoder: the model whose maps are judged; judged: the
    composites that are not trained on; pairs: more of them, of which every two show some
    cut-outs alike."""

    config: EnergyConfig
    accelerator: Accelerator
    alpha: Path
    digest: str
    decoder: AlphaModel
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
    alpha = alpha_file(expand(config.alpha))
    model, facts = load_alpha(alpha)
    if not isinstance(model.decoder, AlphaDecoder):
        raise ValueError(
            f"{alpha}: its codes come from slots, and an energy is for those of places; give a run "
            "with alpha.name=places"
        )
    check_grids(model.decoder)
    model.to(accelerator.device).precision = fast_precision(accelerator.device)
    recipe = recipe_of(alpha)
    composer, content = composer_of(alpha, recipe, config, facts.fingerprint)
    name = digest(alpha)
    with dist.together():
        if accelerator.is_main_process:  # makes it; the others read it
            _made(model, composer, config, name)
    whole, pairs = _made(model, composer, config, name)
    if not len(whole.image):
        raise ValueError(
            f"{alpha}: its composites show no instance, so there is nothing to learn; look at the "
            f"proposals: genseg generate {recipe.alpha.proposals} FOLDER --out DIR"
        )
    torch.manual_seed(config.seed % 2**63)
    sizes = {"embedding": facts.decoder.embedding, "code": facts.decoder.code}
    energy = build_energy(config.shape, model.decoder, config.autoencoder, **sizes)
    sample = whole.embeddings[: min(len(whole), 256)]
    energy.observe(sample)
    module = build_shaping(config.shape, energy)
    module.to(accelerator.device)
    plan = Plan(images=config.composites, batch=config.batch_size, total=config.steps)
    optimizer = build_optimizer(config.optimizer, module, plan)
    wrapped, optimizer = prepare(accelerator, module, optimizer)
    return EnergyParts(
        config=config,
        accelerator=accelerator,
        alpha=alpha,
        digest=name,
        decoder=model,
        composer=composer,
        material=whole.part(0, config.composites),
        judged=whole.part(config.composites, config.composites + config.judged),
        pairs=pairs,
        fingerprint=f"{name}-{content}",
        plan=plan,
        module=module,
        wrapped=wrapped,
        optimizer=optimizer,
    )


def _made(
    model: AlphaModel, composer: Composer, config: EnergyConfig, name: str
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

    whole = made(composer, config.composites + config.judged, name)
    return whole, made(paired(composer), PAIRS, f"{name}-pairs")


def recipe_of(alpha: Path) -> pretrained.PretrainConfig:
    """The config of the run that an alpha decoder is of. Raises ValueError where it is gone."""
    file = alpha.parent / CONFIG_NAME
    if not file.is_file():
        raise ValueError(
            f"there is no {file}: an energy is trained on composites, and that says how they are "
            f"made; give the run directory of genseg pretrain that {alpha.name} is of"
        )
    return configs.load(
        pretrained.PretrainConfig, file=file, overrides=[], choices=pretrained.CHOICES
    )


def composer_of(
    alpha: Path, recipe: pretrained.PretrainConfig, config: EnergyConfig, known: str
) -> tuple[Composer, str]:
    """Composites as the alpha task made them, of the same images and first proposals; the images'
    fingerprint. Raises ValueError where the images are others."""
    data = config.data or recipe.data.path
    images = in_windows(list_images(default_scenes("images") if data == "embedded" else data))
    content = fingerprint(images)
    if known and content != known:
        raise ValueError(
            f"data={data}: these are not the images that {alpha} was trained on; give their folder "
            "as data=FOLDER"
        )
    source = source_of(images, read_cache(images, recipe, recipe.alpha.side, content))
    file = alpha.parent / BANKS / "0.npz"
    bank = (
        load_bank(file)
        if file.is_file()
        else first_bank(content, source, recipe.alpha, workers=recipe.data.workers)
    )
    made = Composer(source, bank, recipe.alpha.compose, share=1.0, seed=recipe.seed)
    return made, content


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
