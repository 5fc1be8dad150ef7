"""Durations, and everything that changes over a run as a pure function of progress in [0, 1]."""

import math
import re
from dataclasses import dataclass
from typing import Literal

LONGEST = 1e12  # epochs, steps or images: more is a slip
Scaling = Literal["linear", "sqrt", "none"]
_DURATION = re.compile(
    r"\s*([0-9]+(?:\.[0-9]*)?(?:e[0-9]{1,2})?)\s*(epochs?|steps?|images?|percent)\s*"
)


def check_durations(**texts: str) -> None:
    """Raise ValueError naming the first text that is no duration."""
    for name, text in texts.items():
        if _DURATION.fullmatch(text) is None:
            raise ValueError(
                f"{name}={text}: write a number and epochs, steps, images or percent, such as "
                f"{name}='10 epochs'"
            )


@dataclass(frozen=True)
class Plan:
    """How long a run is. `batch` counts images of one update over all ranks and accumulated
    passes."""

    images: int  # in the data set
    batch: int
    total: int  # updates of the whole run

    @property
    def steps_per_epoch(self) -> int:
        """Updates of one epoch; the incomplete last batch is dropped. One where there are fewer
        images than a batch."""
        return max(1, self.images // self.batch)

    def steps(self, duration: str) -> int:
        """A duration such as "10 epochs", "500 steps", "2e4 images" or "5 percent" (of the run) in
        updates.

        Raises ValueError when the text is none of these.
        """
        check_durations(duration=duration)
        match = _DURATION.fullmatch(duration)
        assert match is not None
        number, unit = float(match[1]), match[2].rstrip("s")
        per_unit = {
            "epoch": self.steps_per_epoch,
            "step": 1,
            "image": 1 / self.batch,
            "percent": self.total / 100,
        }
        return math.ceil(number * per_unit[unit] - 1e-9)

    def progress(self, duration: str) -> float:
        """The same as a part of the run."""
        return self.steps(duration) / self.total


def plan(
    *,
    images: int,
    batch: int,
    epochs: float | None,
    steps: int | None,
    samples: float | None,
    again: bool = False,
) -> Plan:
    """The plan of a run that is given as epochs, steps or images seen (`samples`): exactly one of
    them.

    again: fewer images than a batch are drawn again until it is full, and an epoch is one batch

    Raises ValueError when none or several are given, or when the data are fewer than one batch
    without `again`.
    """
    given = {
        k: v
        for k, v in (("epochs", epochs), ("steps", steps), ("images", samples))
        if v is not None
    }
    if len(given) != 1:
        got = " and ".join(f"{k}={v:g}" for k, v in given.items()) or "none of them"
        raise ValueError(
            f"give the length of the run as one of epochs=, steps=, images=; got {got}"
        )
    if images < batch and not again:
        raise ValueError(
            f"{images} images are fewer than one batch of {batch}; "
            + (f"use batch_size={max(images // 2, 2)}" if images > 1 else "give two or more")
        )
    name, value = next(iter(given.items()))
    if not 0 < value < LONGEST:
        raise ValueError(
            f"{name}={value:g}: a run has to be longer than nothing, and to end ({LONGEST:g} at "
            "most)"
        )
    per_unit = {"epochs": max(1, images // batch), "steps": 1, "images": 1 / batch}
    return Plan(images=images, batch=batch, total=max(1, math.ceil(value * per_unit[name] - 1e-9)))


def cosine(progress: float, start: float, end: float) -> float:
    """Half a cosine from `start` at 0 to `end` at 1 (SGDR, eq. 5)."""
    return end + (start - end) * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))) / 2


def ema_momentum(progress: float, base: float) -> float:
    """BYOL's target rate: tau = 1 - (1 - base)(cos(pi k/K) + 1)/2, from `base` at 0 to 1 at the
    end."""
    return cosine(progress, base, 1.0)


def scaled_lr(lr: float, batch: int, rule: Scaling) -> float:
    """Learning rate for a batch: `none`, `linear` (lr * batch/256, Goyal 2017) or `sqrt` (lr *
    sqrt(batch/256))."""
    return lr * {"none": 1.0, "linear": batch / 256, "sqrt": math.sqrt(batch / 256)}[rule]
