"""The cut-out bank: the proposals of all images, in a few arrays that workers share."""

import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from genseg.core.files import replacing
from genseg.data.instances.instance import Instance


class Bank:
    """Instances of many images, read-only.

    rows: image, top, left, height, width and first byte of each, sorted by image
    """

    def __init__(
        self,
        rows: Int[np.ndarray, "n 6"],
        scores: Float[np.ndarray, "n"],
        alphas: UInt8[np.ndarray, "m"],
    ) -> None:
        self.rows, self.scores, self.alphas = rows, scores, alphas

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Instance:
        _, top, left, h, w, first = self.rows[i].tolist()
        return Instance(
            self.alphas[first : first + h * w].reshape(h, w), top, left, float(self.scores[i])
        )

    def image(self, i: int) -> int:
        """The image that the i-th instance comes from."""
        return int(self.rows[i, 0])

    def of_image(self, image: int) -> range:
        """Numbers of the instances of an image."""
        first, last = np.searchsorted(self.rows[:, 0], (image, image + 1))
        return range(int(first), int(last))


def build_bank(images: Sequence[Sequence[Instance]]) -> Bank:
    """The bank of the instances of each image."""
    rows, scores, parts, first = [], [], [np.empty(0, np.uint8)], 0
    for number, instances in enumerate(images):
        for a in instances:
            rows.append((number, a.top, a.left, *a.alpha.shape, first))
            scores.append(a.score)
            parts.append(a.alpha.reshape(-1))
            first += a.alpha.size
    table = np.array(rows, np.int64).reshape(-1, 6)
    return Bank(table, np.array(scores, np.float32), np.concatenate(parts))


def save_bank(bank: Bank, path: Path) -> None:
    """Write a bank; the file gets its name when it is whole."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, rows=bank.rows, scores=bank.scores, alphas=bank.alphas)


def load_bank(path: Path) -> Bank:
    """A bank that `save_bank` has written. Nothing is unpickled. Raises ValueError for another or a
    damaged file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            return Bank(content["rows"], content["scores"], content["alphas"])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no bank of cut-outs, or damaged ({error})") from None
