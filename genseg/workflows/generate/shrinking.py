"""What is said of images that are looked at smaller than they are: small objects in them cannot be
found."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from genseg.core.words import amount


@dataclass(frozen=True)
class Shrinking:
    """How images become smaller before anything is looked for in them.

    factor: by how much an image of so many rows and columns is shrunk; 1 or less: it is not
    least: pixels across, after shrinking, of the smallest object that can be found
    remedy: what to do about it
    """

    factor: Callable[[int, int], float]
    least: float
    remedy: str

    def said(self, sizes: Iterable[tuple[int, int]]) -> dict[str, Any]:
        """For a json's `info`: how many images of these heights and widths were shrunk, the
        smallest object that can still be found in the one that was shrunk most, in its own pixels,
        and both as a note. Nothing when none was."""
        factors = [self.factor(h, w) for h, w in sizes]
        if not factors or max(factors) <= 1:
            return {}
        count, most = sum(f > 1 for f in factors), max(factors)
        smallest = math.ceil(most * self.least)
        note = (
            f"{count:,} of {amount(len(factors), 'image')} are looked at smaller than they are, "
            f"at 1/{most:.1f} of their sides or more: where it is 1/{most:.1f}, nothing of less "
            f"than {smallest} px across can be found; {self.remedy}"
        )
        return {"notes": [note], "shrunk_images": count, "smallest_object_px": smallest}
