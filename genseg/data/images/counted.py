"""How many images the files of a list hold, as they are read; or why none can be taken."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from genseg.core.reading import Reading
from genseg.core.words import amount
from genseg.data.images.decode import TIFFS, ZARR, regular
from genseg.data.images.held import may_hold_more, zarr_in
from genseg.data.images.planes import Held, choose
from genseg.data.images.values import held_in

# of files that may hold more than one picture
SUFFIXES = (".gif", ".npy", ".npz", ".png", *TIFFS, ".webp", ZARR)


def images_in(paths: Sequence[Path], reading: Reading) -> tuple[int, ...]:
    """How many images each file holds; 1 for what cannot be read: the reader tells. Headers alone
    are read.

    Raises ValueError where a file holds more than `reading` says what to use of, or not what it
    asks for: with what the first one holds, and what to write.
    """
    with ThreadPoolExecutor(8) as pool:  # they hide the latency of a disk or a network
        held = pool.map(held_by_file, paths, chunksize=64)
        counts, refused = list[int](), list[str]()
        for path, found in zip(paths, held, strict=True):
            try:
                counts.append(1 if found is None else len(choose(found, reading.selection).images))
            except ValueError as error:
                counts.append(0)
                refused.append(f"{path}: {error}")
    if refused:
        more = f"; so do {amount(len(refused) - 1, 'more file')}" if len(refused) > 1 else ""
        raise ValueError(refused[0] + more.replace("so do 1", "so does 1"))
    return tuple(counts)


def held_by_file(path: Path, *, plain: bool = False) -> Held | None:
    """What a file holds, if its header speaks of more than one picture; None for a plain one,
    unless `plain` asks for these, too, and for what cannot be read."""
    if not plain and path.suffix.lower() not in SUFFIXES:
        return None
    try:
        if path.suffix.lower() == ZARR and path.is_dir():
            return zarr_in(path)[1]
        with open(path, "rb", opener=regular) as file:
            return held_in(file) if plain or may_hold_more(file) else None
    except MemoryError:
        raise
    except Exception:  # a damaged file makes the readers raise nearly anything
        return None
