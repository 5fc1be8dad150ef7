"""How the images of a run, or of a result, were read: what is read for it later is read so, too."""

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from genseg.core.names import (
    ALPHA_NAME,
    BEST_NAME,
    ENCODER_NAME,
    INSTANCES_NAME,
    MODEL_NAME,
    PREDICTIONS_NAME,
)
from genseg.core.paths import expand
from genseg.core.reading import Reading, current, kept_reading, reading_as
from genseg.nn.weights import read_facts
from genseg.schema import build

P = ParamSpec("P")
R = TypeVar("R")
WEIGHTS = (ALPHA_NAME, BEST_NAME, MODEL_NAME, ENCODER_NAME)
RESULTS = (INSTANCES_NAME, PREDICTIONS_NAME)
INSIDE = ("look", "preparation")  # where the facts of a whole model have it


def reading_of(path: Path) -> Reading | None:
    """How the images were read, as a weights file, a run, a json or a result of genseg says; None
    for all else, as a proposer or labels, which keep nothing."""
    if path.is_dir():
        found = next((path / n for n in (*WEIGHTS, *RESULTS) if (path / n).is_file()), path)
        return None if found == path else reading_of(found)
    try:
        if path.suffix == ".json" and path.is_file():
            content = json.loads(path.read_bytes())
            return kept_reading(content) if isinstance(content, dict) else None
        if path.suffix == ".safetensors" and path.is_file():
            facts: dict[str, Any] = read_facts(path)
            kept = next((facts[n] for n in INSIDE if isinstance(facts.get(n), dict)), facts)
            return build(Reading, kept.get("reading", {}))
    except (OSError, ValueError):  # whoever reads it for its own sake says what is wrong
        pass
    return None


def reads_as(
    which: str, *, also: str = "", alike: bool = False
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function that reads images as the run does that is its argument `which`, a path or several,
    as far as nothing else is said; "config.alpha" is an attribute of an argument.

    Of several the first that keeps something counts, until one of them is at work by itself.
    also: the argument of a result that says which pages, where the run does not
    alike: they see the same images, so ValueError is raised where they read them differently
    """
    name, _, attribute = which.partition(".")

    def decorator(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs).arguments
            given = bound[name]
            value = attrgetter(attribute)(given) if attribute else given
            paths = [value] if isinstance(value, str | Path) else list(value)
            kept = {str(p): r for p in paths if (r := reading_of(expand(p))) is not None}
            if alike:
                _refuse_apart(kept)
            said = [r for r in kept.values() if r.said] or [*kept.values()]
            words = said[0] if said else None
            if also and (more := reading_of(expand(bound[also]))) is not None:
                words = (words or Reading()).over(Reading(pages=more.pages))
            with reading_as(words):
                return function(*args, **kwargs)

        return wrapped

    return decorator


def _refuse_apart(kept: Mapping[str, Reading]) -> None:
    """Raise ValueError where runs, by their names, read images differently."""
    read = {name: current(own) for name, own in kept.items()}
    for name, own in read.items():
        first = next(iter(read))
        if own != read[first]:
            raise ValueError(
                f"{first} reads {_told(read[first])}, and {name} {_told(own)}: they cannot see the "
                "same images; give those that read alike, and the others apart"
            )


def _told(words: Reading) -> str:
    ranges = f"data.range={[list(pair) for pair in words.ranges]}" if words.ranges else ""
    return " ".join(filter(None, (words.selection.text, ranges))) or "red, green and blue"
