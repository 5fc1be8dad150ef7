"""Going on with a run: where it stood, and whether it is the same run."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from genseg import config as configs
from genseg.core import dist
from genseg.core.files import remove_leftovers
from genseg.core.names import BANKS, CHECKPOINTS, TIMM, WEIGHTS
from genseg.runs import checkpoint
from genseg.runs.folder import RunError, clear, lock, refuse_foreign
from genseg.schema import defaults_of, without_new

# tensors and state, as genseg.runs.checkpoint keeps them
Saved = tuple[dict[str, Tensor], dict[str, Any]]


def described(config: Any, circumstances: Mapping[str, Any]) -> dict[str, Any]:
    """All that decides a run's weights beside its data, as JSON gives it back."""
    return dict(json.loads(json.dumps({**configs.flatten(config), **circumstances})))


def usual_of(config: Any) -> dict[str, Any]:
    """The defaults of a config's keys, as `described` has their values."""
    return dict(json.loads(json.dumps(defaults_of(config))))


def reopen(
    run: Path,
    config: Mapping[str, Any],
    *,
    usual: Mapping[str, Any],
    fingerprint: str,
    source: str,
    free: tuple[str, ...],
) -> Saved | None:
    """The last checkpoint of this very run, or None for a new one. Raises RunError when config or
    data differ.

    usual: the defaults of its keys, as JSON gives them back
    source: what the fingerprint is of, in words
    free: beginnings of the keys that may change between the calls that make up one run
    """
    saved = checkpoint.load_latest(run)
    if saved is None:
        return None
    state = saved[1]
    _refuse(run, state["config"], config, usual, free)
    if state["fingerprint"] != fingerprint:
        raise RunError(
            f"run={run}: {source} have changed since this run was started; restore them, or start "
            "over with --fresh"
        )
    return saved


def begun(
    run: Path, config: Mapping[str, Any], *, usual: Mapping[str, Any], free: tuple[str, ...]
) -> bool:
    """Whether a run has a checkpoint to go on from. Raises RunError when it is another run's,
    before anything that takes long."""
    state = checkpoint.peek(run)
    if state is not None:
        # how many take part is not known yet
        _refuse(run, state["config"], config, usual, (*free, "processes:"))
    return state is not None


def _refuse(
    run: Path,
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    usual: Mapping[str, Any],
    free: tuple[str, ...],
) -> None:
    """Raise RunError when two configs differ in what is not free."""
    lines_of = configs.difference(before, without_new(now, before, usual))
    changed = [line for line in lines_of if not line.startswith(free)]
    if not changed:
        return
    lines = "\n  ".join(changed)
    hint = "Give the same keys to go on with it, --fresh to start over, or another run= folder."
    if "encoder.weights" in before:
        hint += f" From its weights, the other run begins with encoder.weights={run}."
    if any(line.startswith("mixed_precision:") for line in changed):
        hint += f" precision=auto is another one here: add precision={before['mixed_precision']}."
    if any(line.startswith("processes:") for line in changed):
        hint += " Start as many processes as it began with."
    raise RunError(f"run={run} was started with another config (old -> new):\n  {lines}\n{hint}")


def take(
    stack: contextlib.ExitStack,
    run: Path,
    config: Mapping[str, Any],
    *,
    usual: Mapping[str, Any],
    main: bool,
    fresh: bool,
    fingerprint: str,
    source: str,
    free: tuple[str, ...],
) -> Saved | None:
    """Hold a run directory for as long as `stack` lasts, emptied if `fresh`; what `reopen` returns,
    on all ranks."""
    with dist.together():
        if main:
            stack.enter_context(lock(run))
        if main and fresh:
            clear(run)
        for folder in (run, run / BANKS, run / TIMM) if main else ():
            remove_leftovers(folder)
    with dist.together():
        saved = reopen(run, config, usual=usual, fingerprint=fingerprint, source=source, free=free)
    with dist.together():
        if main:
            if saved is None:
                refuse_leftovers(run)
            (run / CHECKPOINTS).mkdir(exist_ok=True)
    return saved


def refuse_leftovers(run: Path) -> None:
    """Raise RunError where a new run would find what another has learnt, without its checkpoints,
    or files that are not genseg's."""
    if not (run / CHECKPOINTS).is_dir() and (learnt := [n for n in WEIGHTS if (run / n).exists()]):
        raise RunError(
            f"run={run} holds {', '.join(learnt)} and no checkpoints/ to go on from: choose "
            "another run= folder, or start over with --fresh, which removes them"
        )
    refuse_foreign(run)


def due(step: int, every: int) -> bool:
    """Whether something that happens every so many steps (0: never) happens now."""
    return every > 0 and step % every == 0
