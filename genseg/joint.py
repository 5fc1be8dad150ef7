"""A method and the alpha decoder around one encoder, as one module with one forward."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genseg.alpha.decoder import AlphaDecoder, DecoderConfig
from genseg.alpha.kept import GenerateConfig
from genseg.alpha.mine import RoundsConfig
from genseg.alpha.objective import ObjectiveConfig, contrast_head, instance_contrast, objective
from genseg.alpha.slots import SlotAttentionConfig, SlotDecoder, reconstruction
from genseg.alpha.teacher_level import TeacherLevel
from genseg.core.check import above, at_least, between
from genseg.data.composites.compose import ComposeConfig, Composites
from genseg.data.proposals.propose import Proposals, check_teacher
from genseg.energies.head import EnergyHead, EnergyTask
from genseg.methods.method import Key, Method, RunImages
from genseg.nn.encoder import Encoder
from genseg.nn.groups import Grouped


@dataclass(frozen=True)
class AlphaConfig:
    """The alpha task, beside a method or alone."""

    name: str = "places"
    weight: float = 1.0  # weight of the alpha loss beside the method's
    share: float = 0.125  # share of a batch's images that become hosts of composites
    proposals: Proposals = "tree"  # the classical method that makes the first proposals
    # of the frozen teacher that proposals=cut asks: a .safetensors file, a run with an encoder, or
    # a tag of timm that is on this machine
    teacher: str | None = None
    teacher_name: str | None = None  # timm's name of its architecture, where its file does not say
    # also give the decoder the teacher's features, as a level of its pyramid: then the teacher is a
    # part of the model, and its file is needed to use it
    teacher_level: bool = False
    min_area: int = 20  # area in pixels of the smallest proposal
    # larger images are shrunk to this short side for proposals, composites and generation
    side: int = 512
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    compose: ComposeConfig = field(default_factory=ComposeConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    generate: GenerateConfig = field(default_factory=GenerateConfig)

    def __post_init__(self) -> None:
        above(0, share=self.share)
        between(0, 1, share=self.share)
        at_least(0, weight=self.weight)
        at_least(32, side=self.side)
        at_least(1, min_area=self.min_area)
        if not self.teacher_level:
            check_teacher(self.proposals, self.teacher, key="alpha.teacher")
        elif self.teacher is None:
            raise ValueError(
                "alpha.teacher_level: there is no teacher whose features the decoder could take; "
                "set alpha.teacher"
            )
        if self.rounds.count > 1 and min(self.compose.sure, self.compose.native) <= 0:
            raise ValueError(
                "alpha.rounds.count: after a round what is doubted scores too little to be "
                "pasted, and with alpha.compose.sure=0 or native=0 nothing does; set both above "
                "0, or rounds.count=1"
            )
        if self.objective.contrast and not self.compose.shared:
            raise ValueError(
                "alpha.objective.contrast compares cut-outs that composites have in common, and "
                "there are none: set alpha.compose.shared=3, or alpha.objective.contrast=0"
            )


@dataclass(frozen=True)
class SlotsConfig(AlphaConfig):
    """The alternative without composites and proposals: slot attention that reconstructs windows of
    real images."""

    name: str = "slots"
    slots: SlotAttentionConfig = field(default_factory=SlotAttentionConfig)
    compose: ComposeConfig = field(default_factory=lambda: ComposeConfig(pasted=(0, 0)))
    # a slot wins pixels with any alpha above 1 / slots.count: half would hide all of a model that
    # is not yet sure
    generate: GenerateConfig = field(default_factory=lambda: GenerateConfig(score=0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teacher_level:
            raise ValueError("alpha.teacher_level: slots take no teacher; set alpha.name=places")
        if self.rounds.count != 1:
            raise ValueError("alpha.rounds.count: slots take no proposals, so there is one round")


def build_decoder(
    encoder: Encoder, config: AlphaConfig, taught: TeacherLevel | None = None
) -> AlphaDecoder | SlotDecoder:
    """The decoder of a config. taught: a teacher's features that it takes"""
    if isinstance(config, SlotsConfig):
        return SlotDecoder(encoder, config.slots, config.decoder)
    return AlphaDecoder(encoder, config.decoder, taught)


@dataclass(frozen=True)
class Inputs:
    """What an update sees: views by crop size, normalised; composites, and their images
    normalised."""

    views: list[Float[Tensor, "_ b c _ _"]]
    composed: Float[Tensor, "n c h w"]
    composites: Composites


class Joint(nn.Module):
    """loss = method's loss + weight * (sum of the alpha task's terms) + weight * (those of the
    energy), one backward pass for all.

    Without a method the alpha task is trained alone. Beside a method, composites leave the running
    statistics of the encoder's batch norms alone: those belong to its views, and generation makes
    its own (`AlphaModel.fit_norms`).
    """

    def __init__(
        self,
        encoder: Encoder,
        method: Method | None,
        config: AlphaConfig,
        energy: EnergyTask | None = None,
        taught: TeacherLevel | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.method = method
        self.decoder = build_decoder(encoder, config, taught)
        self.head: nn.Module | None = None  # for training only, as a method's
        if config.objective.contrast and isinstance(self.decoder, AlphaDecoder):
            self.head = contrast_head(self.decoder)
        self.config = config
        self.energy: EnergyHead | None = None
        if energy is not None and energy.shape.name != "none":
            if not isinstance(self.decoder, AlphaDecoder):
                raise ValueError(
                    "energy.shape.name: an energy is for codes of places; set alpha.name=places"
                )
            self.energy = EnergyHead(energy, self.decoder)
        if config.rounds.critic != "look" and self.energy is None:
            raise ValueError(
                f"alpha.rounds.critic={config.rounds.critic}: there is no energy to ask; set "
                "energy.shape.name, such as critic, or alpha.rounds.critic=look"
            )

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        outputs = {} if self.method is None else self.method(inputs.views)
        with frozen_statistics(self.encoder, frozen=self.method is not None):
            pyramid = self.encoder.pyramid(inputs.composed)
        terms, facts = self._terms(pyramid, inputs)
        alpha = self.config.weight * torch.stack(list(terms.values())).sum()
        if "energy" in facts:  # weighted by itself
            alpha = alpha + facts["energy"]
        if self.method is None:
            return {
                "loss": alpha,
                "embeddings": pyramid[-1].mean((2, 3)).detach(),
                **terms,
                **facts,
            }
        contrast = outputs.pop("loss")
        return {"loss": contrast + alpha, "contrast": contrast, **outputs, **terms, **facts}

    def _terms(
        self, pyramid: list[Tensor], inputs: Inputs
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The alpha task's terms, and what is only for the log."""
        if isinstance(self.decoder, SlotDecoder):
            return {"reconstruction": reconstruction(self.decoder(pyramid)[1], inputs.composed)}, {}
        embeddings, places = self.decoder(pyramid)
        terms, facts = objective(
            self.decoder, embeddings, places, inputs.composites, self.config.objective
        )
        if self.head is not None:
            config = self.config.objective
            terms["instances"] = instance_contrast(self.head, embeddings, inputs.composites, config)
        if self.energy is not None:
            facts |= self.energy(self.decoder, embeddings, places, inputs.composites)
        return terms, facts

    def trivial(self, batch: int) -> float | None:
        """The method's loss when nothing is learnt; None without a method."""
        return None if self.method is None else self.method.trivial(batch)

    def prepare(self, images: RunImages, *, begun: bool) -> None:
        if self.method is not None:
            self.method.prepare(images, begun=begun)

    def begin_step(self) -> None:
        if self.method is not None:
            self.method.begin_step()

    def begin_pass(self, index: Int[Tensor, "b"], keys: Sequence[Key] = ()) -> None:
        if self.method is not None:
            self.method.begin_pass(index, keys)

    def before_step(self, progress: float) -> None:
        if self.method is not None:
            self.method.before_step(progress)
        if self.energy is not None:
            self.energy.progress = progress

    def after_step(self, progress: float) -> None:
        if self.method is not None:
            self.method.after_step(progress)
        if self.energy is not None:
            self.energy.shaping.after_step()

    def scheduled(self, progress: float) -> dict[str, float]:
        return {} if self.method is None else self.method.scheduled(progress)


@contextmanager
def frozen_statistics(module: nn.Module, *, frozen: bool) -> Iterator[None]:
    """While entered, batch norms use the whole batch's statistics, in no groups, and do not average
    them."""
    norms = (
        [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if frozen
        else []
    )
    before = [m.momentum for m in norms]
    grouped = [m for m in norms if isinstance(m, Grouped)]
    for m in norms:
        m.momentum = 0.0
    for m in grouped:
        m.groups = 1  # over that of its class
    try:
        yield
    finally:
        for m, momentum in zip(norms, before, strict=True):
            m.momentum = momentum
        for m in grouped:
            del m.groups
