"""An image that is looked at window by window, in 8 bits, and how much of it is looked at.

A scene stands where an array of pixels stands: it has a shape, and `scene[rows, columns]` are the
pixels that the whole decoded image would have there.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np
from jaxtyping import Bool, Shaped

from genseg.core.files import replacing
from genseg.data.images.decode import resize, shrunk_size
from genseg.data.images.inputs import as_inputs, mapped, stretching_of, stretching_step
from genseg.data.instances.instance import Instance, where_known
from genseg.data.regions.area import Pixels, Read, Shrunk
from genseg.data.regions.interest import Interest

Gone = Callable[[int, int, int, int], Bool[np.ndarray, "h w"] | None]
FLAT = 16  # levels of 255: a tile whose blocks differ less is background
BLOCK = 4  # pixels across of the blocks whose means are compared


class Stopped(Exception):
    """Nobody waits for the scene any more; what is kept is where it goes on."""


@dataclass(frozen=True)
class Scene:
    """read: windows in 8 bits
    shape: height, width, channels
    chosen: the same scene at the resolution that was asked for, where one was: models look at it,
        in place of a size of their own
    interest: what of it is looked at; None: all
    every_tile: tiles of background are looked at, too (`is_flat`)
    folder: where what tiles have shown is kept until the image is done; None: nowhere
    absent: which pixels of a window have no value (None: each has one); None: all of them have one
    stopping: once it is set, no further row of tiles is looked at
    """

    read: Read
    shape: tuple[int, int, int]
    chosen: "Scene | None" = None
    interest: Interest | None = None
    every_tile: bool = True
    folder: Path | None = None
    absent: Gone | None = None
    stopping: threading.Event = field(default_factory=threading.Event)

    def __getitem__(self, window: tuple[slice, slice]) -> Pixels:
        """The pixels of a window; an open end is the image's."""
        (top, bottom, _), (left, right, _) = (
            s.indices(n) for s, n in zip(window, self.shape[:2], strict=True)
        )
        return self.read(top, left, bottom - top, right - left)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.shape[0], self.shape[1]

    def asks(self, rows: slice, columns: slice) -> bool:
        """Whether a window is looked at: it meets the region of interest, and is no background."""
        if self.interest is not None and not self.interest.meets(rows, columns, self.size):
            return False
        return self.every_tile or not is_flat(self[rows, columns])

    def within(self, found: Sequence[Instance]) -> list[Instance]:
        """Those of some instances whose middle lies in the region of interest, without the pixels
        that have no value."""
        interest, kept = self.interest, list[Instance]()
        for a in found:
            if interest is None or interest.holds(a, self.size):
                gone = self.absent(a.top, a.left, *a.alpha.shape) if self.absent else None
                known = where_known([replace(a, top=0, left=0)], gone)
                kept += [replace(k, top=a.top, left=a.left) for k in known]
        return kept

    def kept(
        self, name: str, make: Callable[[], dict[str, Shaped[np.ndarray, "*shape"]]]
    ) -> dict[str, Shaped[np.ndarray, "*shape"]]:
        """Arrays from the folder, where they were kept under this name; else they are made, and
        kept. Raises Stopped."""
        if self.stopping.is_set():
            raise Stopped
        if self.folder is None:
            return make()
        file = self.folder / f"{name}.npz"
        try:
            with file.open("rb") as kept, np.load(kept, allow_pickle=False) as arrays:
                return dict(arrays)
        except (OSError, ValueError, EOFError, KeyError, BadZipFile):  # none, or a cut one
            pass
        made = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(file) as new, new.open("wb") as opened:
            np.savez(opened, allow_pickle=False, **made)
        return made

    def inputs(self, channels: int) -> "Scene":
        """The same for a model of so many channels, as `inputs.as_inputs` says."""
        if self.shape[2] == channels:
            return self
        as_inputs(np.zeros((1, 1, self.shape[2]), np.uint8), channels)

        def read(*window: int) -> Pixels:
            return as_inputs(self.read(*window), channels)

        chosen = self.chosen and self.chosen.inputs(channels)
        return replace(self, read=read, shape=(*self.size, channels), chosen=chosen)

    def looked_at(self, short_side: int) -> "Scene":
        """What models look at: the resolution that was asked for; or else shrunk to a short side, 0
        for its own size."""
        if self.chosen is not None:
            return replace(self.chosen, stopping=self.stopping)
        width, height = shrunk_size(self.shape[1], self.shape[0], short_side)
        return self.resized((height, width))

    def resized(self, size: tuple[int, int]) -> "Scene":
        """The same at another size: shrunk by the mean over areas, enlarged bilinearly, as OpenCV
        does both."""
        if size == self.size:
            return self
        if any(a > b for a, b in zip(size, self.size, strict=True)):
            large = resize(self[:, :], size[::-1], cv2.INTER_LINEAR)
            return self._with(windows_of(large), size)
        return self._with(Shrunk(self.read, self.size, size).window, size)

    def part(self, rows: slice, columns: slice) -> "Scene":
        """A window as a scene of its own, of which no more is known than its pixels."""
        top, left = rows.start, columns.start

        def read(above: int, before: int, height: int, width: int) -> Pixels:
            return self.read(top + above, left + before, height, width)

        shape = (rows.stop - top, columns.stop - left, self.shape[2])
        return Scene(read, shape, every_tile=self.every_tile)

    def stretched(self) -> "Scene":
        """The same with its values spread over the range, as `inputs.stretch` does of the whole."""
        step = stretching_step(*self.size)
        rows = [self.read(y, 0, 1, self.shape[1])[0, ::step] for y in range(0, self.shape[0], step)]
        table = stretching_of(np.stack(rows))

        def read(top: int, left: int, height: int, width: int) -> Pixels:
            return mapped(self.read(top, left, height, width), table)

        return self._with(read, self.size)

    def _with(self, read: Read, size: tuple[int, int]) -> "Scene":
        return replace(self, read=remembering(read), shape=(*size, self.shape[2]), chosen=None)


def is_flat(x: Pixels) -> bool:
    """Whether a window is background: the means of its blocks differ by less than FLAT in every
    channel."""
    width, height = (max(1, n // BLOCK) for n in x.shape[1::-1])
    means = resize(x, (width, height), cv2.INTER_AREA).reshape(-1, x.shape[2])
    return bool((means.max(0) - means.min(0) < FLAT).all())


def windows_of(x: Pixels) -> Read:
    """The windows of an array."""
    return lambda top, left, height, width: x[top : top + height, left : left + width]


def remembering(read: Read) -> Read:
    """The same, which has its last window at hand: a tile that is asked about is read next."""
    last: dict[tuple[int, int, int, int], Pixels] = {}

    def again(top: int, left: int, height: int, width: int) -> Pixels:
        key = (top, left, height, width)
        if (known := last.get(key)) is None:
            known = read(*key)
            last.clear()
            last[key] = known
        return known

    return again
