"""Checkpoints: written whole or not at all, checked when read; nothing that is read is unpickled.

    RUN/checkpoints/step_00000500/tensors.safetensors
    RUN/checkpoints/step_00000500/state.json           with size and SHA-256 of the tensors
    RUN/checkpoints/latest                             the name of the newest

A folder gets its name only when all of it is on the disk, and `latest` moves after that: a kill or
a power failure at any moment leaves a good checkpoint behind. A name with `.tmp-` is unfinished
work. The next save
removes it, and no load does: another process may read while this one writes.
"""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from genseg.core.names import CHECKPOINTS
from genseg.nn.weights import FULL, number_of

_TENSORS, _STATE, _LATEST, _UNFINISHED = "tensors.safetensors", "state.json", "latest", ".tmp-"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, or none of those that exist can be read."""


def save(
    folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, keep: int
) -> Path:
    """Write a checkpoint of `step` below `folder`, move `latest`, keep the newest `keep`; return
    its folder.

    `state` is whatever JSON can write. Tensors may be on any device, be strided and share memory.
    Checkpoints of later steps are removed: they belong to a course that the run has left. One
    process at a time may save. Raises CheckpointError when it cannot be written; the earlier ones
    are then untouched.
    """
    if keep < 1:
        raise ValueError(f"keep={keep}: at least the newest checkpoint has to stay; use 1 or more")
    root = folder / CHECKPOINTS
    final = root / f"step_{step:08d}"
    text = json.dumps(state)
    ready = _ready(tensors)
    try:
        if not root.is_dir():
            root.mkdir(parents=True)
            _sync(folder)
        _remove_unfinished(root)
        unfinished = _aside(final)
        unfinished.mkdir()
        save_file(ready, unfinished / _TENSORS)
        _sync(unfinished / _TENSORS)
        digest = _digest(unfinished / _TENSORS)
        manifest = {"tensors": digest, "sha256": _sha256(text), "state": state}
        _write(unfinished / _STATE, json.dumps(manifest))
        _sync(unfinished)
        _rename(unfinished, final, digest)
        _sync(root)
        pointer = _aside(root / _LATEST)
        _write(pointer, final.name)
        os.replace(pointer, root / _LATEST)
        _sync(root)
        _prune(root, step, keep)
    except BaseException as error:
        _remove_unfinished(root)
        if isinstance(error, OSError | SafetensorError):
            raise CheckpointError(_complaint(error, final, ready)) from error
        raise
    return final


def load_latest(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors (on the CPU) and state of the checkpoint that `latest` names; None when there is no
    checkpoint.

    When that one is missing or damaged: the newest whole one, with a RuntimeWarning that names what
    was passed over. Raises CheckpointError when there are checkpoints and none can be read.
    """
    root = folder / CHECKPOINTS
    try:
        steps, named = _steps(root), _named(root)
    except OSError as error:
        raise CheckpointError(
            f"{root} cannot be read: {error.strerror}; make it readable"
        ) from error
    passed = [] if named is None or named in steps else [f"{root / named} is missing"]
    for name in sorted(steps, key=lambda name: (name == named, steps[name]), reverse=True):
        try:
            content = _read(root / name)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            passed.append(f"{root / name} cannot be used ({error})")
            continue
        if passed:
            warnings.warn(
                f"{'; '.join(passed)}; going on from {name}", RuntimeWarning, stacklevel=2
            )
        return content
    if passed:
        raise CheckpointError(
            f"{'; '.join(passed)}; no other is left: restore one from a copy or start over"
        )
    return None


def peek(folder: Path) -> dict[str, Any] | None:
    """The state of the checkpoint that `latest` names, unchecked and without its tensors; None
    where there is none that can be read."""
    root = folder / CHECKPOINTS
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return dict(
            json.loads((root / (_named(root) or "none") / _STATE).read_text(encoding="utf-8"))[
                "state"
            ]
        )
    return None


def flatten(content: Any) -> tuple[dict[str, Tensor], Any]:
    """Nested dicts, lists and tuples of tensors and scalars -> tensors by name, and a structure for
    JSON.

    The state_dict of a module, an optimiser or a scaler is such a thing. Raises TypeError, with the
    place, when something else is in it.
    """
    tensors: dict[str, Tensor] = {}

    def structure(value: Any, place: str) -> Any:
        if isinstance(value, Tensor):
            while place in tensors:  # as with the keys 0 and "0" of one dict
                place += "'"
            tensors[place] = value
            return {"tensor": place}
        if isinstance(value, Mapping):
            return {
                "dict": [[plain(k, place), structure(v, f"{place}/{k}")] for k, v in value.items()]
            }
        if isinstance(value, list | tuple):
            parts = [structure(v, f"{place}/{i}") for i, v in enumerate(value)]
            return {"list" if isinstance(value, list) else "tuple": parts}
        return plain(value, place)

    def plain(value: Any, place: str) -> Any:
        if value is None or isinstance(value, bool | int | float | str):
            return value
        raise TypeError(
            f"{place or '/'}: {value!r}, a {type(value).__name__}, does not fit into a checkpoint"
        )

    return tensors, structure(content, "")


def unflatten(tensors: Mapping[str, Tensor], structure: Any) -> Any:
    """What `flatten` was given; its structure may have been through JSON."""
    if not isinstance(structure, dict):
        return structure
    ((kind, value),) = structure.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "dict":
        return {key: unflatten(tensors, inner) for key, inner in value}
    parts = [unflatten(tensors, inner) for inner in value]
    return parts if kind == "list" else tuple(parts)


# Reading


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    manifest = json.loads((path / _STATE).read_text(encoding="utf-8"))
    if _sha256(json.dumps(manifest["state"])) != manifest["sha256"]:
        raise ValueError(f"{_STATE} is not as it was written")
    if _digest(path / _TENSORS) != manifest["tensors"]:
        raise ValueError(f"{_TENSORS} is not as it was written")
    # What load_file gives is a window on the file; a copy outlives the file.
    return {name: tensor.clone() for name, tensor in load_file(path / _TENSORS).items()}, manifest[
        "state"
    ]


def _steps(root: Path) -> dict[str, int]:
    """Name -> step of the folders that have a checkpoint's name."""
    matches = [
        re.fullmatch(r"step_(\d{8,})", path.name)
        for path in (root.iterdir() if root.is_dir() else ())
    ]
    return {match[0]: int(match[1]) for match in matches if match}


def _named(root: Path) -> str | None:
    pointer = root / _LATEST
    return pointer.read_text(errors="replace").strip() if pointer.is_file() else None


def _digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {
            "bytes": path.stat().st_size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# Writing


def _ready(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors takes them: on the CPU, row by row, none in memory that another one
    uses."""
    used: set[int] = set()
    ready = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        ready[name] = tensor.clone() if memory in used else tensor
        used.add(memory)
    return ready


def _rename(unfinished: Path, final: Path, digest: dict[str, Any]) -> None:
    """Give the finished folder its name. An interrupted run writes a step twice: then nothing
    changes."""
    if not final.exists():
        os.rename(unfinished, final)
        return
    with contextlib.suppress(OSError):
        same = (final / _STATE).read_bytes() == (unfinished / _STATE).read_bytes()
        if same and _digest(final / _TENSORS) == digest:
            return
    before = _aside(final)
    os.rename(final, before)
    try:
        os.rename(unfinished, final)
    except OSError:
        os.rename(before, final)
        raise


def _prune(root: Path, step: int, keep: int) -> None:
    steps = _steps(root)
    newest = sorted((s for s in steps.values() if s <= step), reverse=True)[:keep]
    for name, s in steps.items():
        if s not in newest:
            os.rename(root / name, _aside(root / name))  # so that a kill leaves no half checkpoint
    _remove_unfinished(root)


def _aside(path: Path) -> Path:
    return path.with_name(f"{path.name}{_UNFINISHED}{secrets.token_hex(4)}")


def _remove_unfinished(root: Path) -> None:
    """What cannot be removed stays for the next time; it is in nobody's way."""
    for path in root.glob(f"*{_UNFINISHED}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _sync(path)


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _complaint(error: OSError | SafetensorError, final: Path, tensors: Mapping[str, Tensor]) -> str:
    root = final.parent
    number = number_of(error)
    remedy = "make the folder writable, or choose another one"
    if number in FULL:
        need = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        remedy = (
            f"it takes {need / 1e6:.1f} MB: make room there, keep fewer checkpoints or choose "
            "another folder"
        )
    named = None
    with contextlib.suppress(OSError):
        named = _named(root)
    state = (
        f"{root / named} is untouched, and the run can go on from it"
        if named
        else "there is no earlier one"
    )
    reason = os.strerror(number) if number else str(error)
    return f"the checkpoint {final} cannot be written: {reason}; {remedy}. {state}."
