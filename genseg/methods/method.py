"""What the methods share: their contract, and what they do with views."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from genseg.nn.encoder import Encoder

Colour = tuple[float, ...]
Key = tuple[int, int, int]  # seed, epoch and index: what all random numbers of an image come from


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
    """An objective with its heads around an encoder, built as `Method(encoder, config, plan)`."""

    encoder: Encoder
    config: Any  # its own dataclass

    @abstractmethod
    def forward(self, views: list[Float[Tensor, "_ b c _ _"]]) -> dict[str, Tensor]:
        """From one tensor `v b c h w` per crop size, the largest first, to
        {"loss": scalar, "embeddings": b d (of the first view, detached), any named terms}."""

    @abstractmethod
    def trivial(self, batch: int) -> float:
        """Loss of a network that has learnt nothing, for a pass of `batch` images over all
        ranks."""

    def expect_views(self, sizes: Sequence[int], *, mean: Colour, std: Colour) -> None:
        """Called once: the sizes of views in pixels, one size a view, and how they are normalised.

        Raises ValueError unless the method can learn from them; here: from two of the largest size.
        """
        largest = max(sizes)
        check_two_large(sizes.count(largest), largest, self.config.name)

    def prepare(self, images: RunImages, *, begun: bool) -> None:
        """Called once on each start of a run, before the first update; `begun`: its state then
        comes from a checkpoint. Raises ValueError for images that the method cannot use."""

    def begin_pass(self, index: Int[Tensor, "b"], keys: Sequence[Key] = ()) -> None:
        """Called before each pass, with the places of its images in the run's list, and with their
        keys, for methods that draw random numbers of their own."""

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


class Predicts(Method):
    """A method whose predictions are pictures."""

    @abstractmethod
    def shown(
        self, views: Float[Tensor, "v b c h w"], keys: Sequence[Key]
    ) -> dict[str, Float[Tensor, "b c h w"]]:
        """Normalised pictures of the first view of each image: image, masked (as the encoder sees
        it), and predicted where that is a picture."""


def embed(encoder: nn.Module, groups: list[Float[Tensor, "_ b c _ _"]]) -> Float[Tensor, "n b d"]:
    """Encoder output of all views, the largest crop size first: one pass per crop size group
    (SwAV)."""
    return torch.cat([encoder(g.flatten(0, 1)).unflatten(0, g.shape[:2]) for g in groups])


def project(head: nn.Module, x: Float[Tensor, "n b d"]) -> Float[Tensor, "n b e"]:
    """One pass of a head over the embeddings of all views, in float32 from here on."""
    return head(x.flatten(0, 1)).unflatten(0, x.shape[:2]).float()


def check_two_large(count: int, size: int, method: str) -> None:
    """Raise ValueError unless the largest crop size, of `size` pixels, has the two views that
    contrastive methods compare."""
    if count != 2:
        raise ValueError(
            f"{method} compares two views of the largest size; the recipe has {count} of {size} "
            "px: set views.NAME.count or views.NAME.size so that there are two"
        )
