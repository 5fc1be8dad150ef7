"""What the contrastive methods share: their contract, and what they do with views."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genseg.nn.encoder import Encoder


@dataclass(frozen=True)
class RunImages:
    """The images of a run, for a method that looks at them before it begins.

    count: how many there are
    views: of some images, batch by batch: the centre views `b 3 s s`, normalised, on the method's
        device, and which image each is: another one stands in for a broken one
    labels: the class of each, an index into `classes`; None where none has one
    """

    count: int
    views: Callable[[Sequence[int]], Iterator[tuple[Tensor, Tensor]]]
    labels: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()


class Method(nn.Module, ABC):
    """A contrastive objective with its heads around an encoder, built as `Method(encoder, config,
    plan)`."""

    encoder: Encoder

    @abstractmethod
    def forward(self, views: list[Float[Tensor, "_ b c _ _"]]) -> dict[str, Tensor]:
        """From one tensor `v b c h w` per crop size, the largest first, to
        {"loss": scalar, "embeddings": b d (of the first view, detached), any named terms}."""

    @abstractmethod
    def trivial(self, batch: int) -> float:
        """Loss of a network that has learnt nothing, for a pass of `batch` images over all
        ranks."""

    def prepare(self, images: RunImages, *, begun: bool) -> None:
        """Called once on each start of a run, before the first update; `begun`: its state then
        comes from a checkpoint. Raises ValueError for images that the method cannot use."""

    def begin_pass(self, index: Int[Tensor, "b"]) -> None:
        """Called before each pass, with the places of its images in the run's list."""

    def begin_step(self) -> None:
        """Called before the first pass of an update: what a skipped update has left behind is
        dropped."""

    def before_step(self, progress: float) -> None:
        """Called when the gradients of an update are complete."""

    def after_step(self, progress: float) -> None:
        """Called once after each update: teachers and queues move here."""

    def scheduled(self, progress: float) -> dict[str, float]:
        """Numbers that change over the run, for the log."""
        return {}


def embed(encoder: nn.Module, groups: list[Float[Tensor, "_ b c _ _"]]) -> Float[Tensor, "n b d"]:
    """Encoder output of all views, the largest crop size first: one pass per crop size group
    (SwAV)."""
    return torch.cat([encoder(g.flatten(0, 1)).unflatten(0, g.shape[:2]) for g in groups])


def project(head: nn.Module, x: Float[Tensor, "n b d"]) -> Float[Tensor, "n b e"]:
    """One pass of a head over the embeddings of all views, in float32 from here on."""
    return head(x.flatten(0, 1)).unflatten(0, x.shape[:2]).float()


def check_two_large(count: int, size: int, method: str) -> None:
    """Raise ValueError unless the largest crop size, of `size` pixels, has the two views that every
    method compares."""
    if count != 2:
        raise ValueError(
            f"{method} compares two views of the largest size; the recipe has {count} of {size} "
            "px: set views.NAME.count or views.NAME.size so that there are two"
        )
