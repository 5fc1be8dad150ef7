"""Word vectors of class names, from a file in GloVe's text format: `word v1 .. vn` on each line."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from genseg.core.paths import expand
from genseg.data.images.coco_files import PACKED

LONGEST = 1 << 20  # bytes of a line; 300 numbers take 4,000


class WordsError(ValueError):
    """A file of word vectors that cannot be used, or a class without a word."""


def dimension(path: str | Path) -> int:
    """How many numbers the first line of the file has: that of all vectors.

    Raises WordsError for what is no such file.
    """
    return len(next(_lines(expand(path)))[2]) - 1


def class_vectors(
    path: str | Path, classes: Sequence[str], names: Mapping[str, str]
) -> Float[np.ndarray, "k n"]:
    """The vector of each class, of length 1: the mean of those of its words.

    A class is called by its name, or by what `names` has for it. Its words are what stands between
    spaces and underscores, in small letters; one with hyphens that the file lacks is split at them.

    Raises WordsError for a file that is none, for all words that it lacks at once, and for two
    classes of the same vector; ValueError for a name of no class.
    """
    if unknown := sorted(names.keys() - set(classes)):
        raise WordsError(
            f"names: there are no classes {', '.join(unknown)}; the classes are "
            f"{', '.join(classes)}"
        )
    called = {c: re.split(r"[\s_]+", names.get(c, c).lower().strip(" _")) for c in classes}
    parts = {w: [p for p in w.split("-") if p] for words in called.values() for w in words}
    wanted = {p for w, pieces in parts.items() for p in (w, *pieces)}
    known = read_vectors(path, wanted)
    missing = {
        c: gone
        for c, words in called.items()
        if (gone := [w for w in words if w not in known and not _all(parts[w], known)])
    }
    if missing:
        first = next(iter(missing))
        told = "; ".join(f"{c}: {', '.join(map(repr, gone))}" for c, gone in missing.items())
        raise WordsError(
            f"{path} lacks the words of {len(missing)} of {len(classes)} classes ({told}). Say "
            f'what they are called: names={{{first}: "word word"}}, in a recipe '
            f'method.target.names={{{first}: "word word"}}'
        )
    found = np.zeros((len(classes), dimension(path)))
    for row, words in zip(found, called.values(), strict=True):
        pieces = [[w] if w in known else parts[w] for w in words]
        row[:] = np.mean([known[p] for piece in pieces for p in piece], 0)
    return _of_length_one(found, classes, path)


def _all(pieces: Sequence[str], known: Mapping[str, object]) -> bool:
    return bool(pieces) and all(p in known for p in pieces)


def _of_length_one(
    found: Float[np.ndarray, "k n"], classes: Sequence[str], path: str | Path
) -> Float[np.ndarray, "k n"]:
    lengths = np.linalg.norm(found, axis=1)
    if not lengths.all():
        raise WordsError(
            f"{path}: the vector of {classes[int(lengths.argmin())]} is zero, which has no "
            "direction; give the class other words by names"
        )
    found = found / lengths[:, None]
    same = np.triu((found @ found.T) > 1 - 1e-9, 1)
    if same.any():
        a, b = (classes[int(i)] for i in np.argwhere(same)[0])
        raise WordsError(
            f"{path}: {a} and {b} have the same word vector, and cannot be told apart; give one "
            "other words by names"
        )
    return found


def read_vectors(path: str | Path, wanted: set[str]) -> dict[str, Float[np.ndarray, "n"]]:
    """The vectors of those of the `wanted` words that the file has; of a word that comes twice, the
    first. All other lines are only counted.

    Raises WordsError for a file that is missing, empty, packed or none of word vectors, and for
    vectors of differing lengths.
    """
    path, numbers = expand(path), 0
    found: dict[str, Float[np.ndarray, n]] = {}
    for line, text, fields in _lines(path):
        numbers = numbers or len(fields) - 1
        if len(fields) - 1 != numbers:
            # a word with spaces, as glove.840B has
            inner = [_number(f) for f in fields[1 : len(fields) - numbers]]
            if len(fields) - 1 < numbers or None not in inner:
                raise WordsError(
                    f"{path}, line {line}: {len(fields) - 1} numbers behind a word, and line 1 "
                    f"has {numbers}; vectors of one file have one length: get the file again"
                )
        word = text.rsplit(b" ", numbers)[0].decode("utf-8", "replace")
        if word in wanted and word not in found:
            values = [_number(f) for f in fields[-numbers:]]
            if any(v is None or not math.isfinite(v) for v in values):
                raise WordsError(
                    f"{path}, line {line}: what follows {word!r} are not all finite numbers"
                )
            found[word] = np.array(values, float)
    return found


def _lines(path: Path) -> Iterator[tuple[int, bytes, list[bytes]]]:
    """Number, text and fields of each line. The first is checked to be of word vectors; fastText's
    head, `words numbers`, is passed over."""
    try:
        file = path.open("rb")
    except (OSError, ValueError) as error:
        raise WordsError(f"there is no file of word vectors {path}: {error}") from None
    form = "one line for each word, `word v1 .. vn`, as GloVe has them"
    checked = False
    with file:
        for number, raw in enumerate(iter(partial(file.readline, LONGEST), b""), start=1):
            if number == 1:
                packed = (name for start, name in PACKED.items() if raw.startswith(start))
                if kind := next(packed, None):
                    raise WordsError(f"{path} is compressed ({kind}); unpack it")
            text = raw.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").strip(b"\r\n ")
            fields = text.split(b" ")
            if not text or (number == 1 and len(fields) == 2 and all(map(bytes.isdigit, fields))):
                continue
            if not checked and (len(fields) < 2 or None in map(_number, fields[1:])):
                break
            if len(raw) == LONGEST:
                raise WordsError(f"{path}, line {number}: it has no end; it needs {form}")
            checked = True
            yield number, text, fields
    if not checked:
        raise WordsError(f"{path} holds no word vectors: it needs {form}")


def _number(field: bytes) -> float | None:
    try:
        return float(field)
    except ValueError:
        return None
