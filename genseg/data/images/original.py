"""All channels of an image with the values that its file holds, for measuring: training and finding
see `decode` instead."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped

from genseg.core.reading import Reading, Selection, current
from genseg.data.images.decode import reason_of, regular
from genseg.data.images.planes import Choice, Held, as_stack, check_image, choose, is_stacked
from genseg.data.images.source import ImageError
from genseg.data.images.values import absent, held_in, values_in


@dataclass(frozen=True)
class Original:
    """pixels: upright, of the file's own type; channels: their names, as columns of a table have
    them; absent: where there is no value (NaN, nodata), None: nowhere."""

    pixels: Shaped[np.ndarray, "h w c"]
    channels: tuple[str, ...]
    absent: Bool[np.ndarray, "h w"] | None = None


def read_original(
    path: str | Path, *, image: int = 0, reading: Reading | None = None, every: bool = False
) -> Original:
    """Every channel of an image, or those that are chosen, neither scaled nor converted; palettes
    and CMYK become RGB, and what is declared to be transparency is left out.

    image, reading: as for `decode`
    every: of the pages that are chosen every channel, also where `reading` names some

    Raises ImageError, with the reason, for a file that cannot be read, or holds more pages than are
    chosen.
    """
    wanted = (current() if reading is None else reading).selection
    try:
        with open(path, "rb", opener=regular) as file:
            held = held_in(file)
            choice = choose(held, all_channels(held, wanted, every=every))
            check_image(held, choice, image)
            x = values_in(file, held, choice, max(image, 1) - 1)
            seen = as_stack(held) if choice.stacked else held
            return Original(x, channel_names(seen, choice), absent(x, held.nodata))
    except MemoryError:
        raise
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        raise ImageError(f"{path}: {reason_of(error)}") from error


def channel_names(seen: Held, choice: Choice) -> tuple[str, ...]:
    """The names of the channels that are chosen of a file, as it is `seen`: with its pages taken
    for channels where the choice is stacked."""
    names = _named(seen.channels, () if choice.stacked else seen.names)
    return tuple(names[c] for c in choice.channels)


def all_channels(held: Held, wanted: Selection, *, every: bool) -> Selection:
    """What is wanted; all channels but transparency, where none is named, or `every`."""
    held = as_stack(held) if is_stacked(held, wanted) else held
    if every:
        wanted = Selection(pages=wanted.pages)
    if wanted.channels or held.channels == 1:
        return wanted
    colours = held.channels - 1 if held.plain and held.alpha else held.channels
    return Selection(tuple(range(1, colours + 1)), wanted.pages)


def _named(count: int, names: tuple[str, ...]) -> tuple[str, ...]:
    """A name for each channel, each once: its own, or else its number."""
    names = names or (("grey",) if count == 1 else ())
    given = [re.sub(r"\W+", "_", name).strip("_").lower() for name in names][:count]
    given += [""] * (count - len(given))
    return tuple(
        name if name and given.count(name) == 1 else f"channel_{n}"
        for n, name in enumerate(given, start=1)
    )
