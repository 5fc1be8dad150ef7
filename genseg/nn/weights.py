"""Files of weights: written whole or not at all; how to use them stands in them as JSON, under "genseg"."""

import contextlib
import errno
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, the user's share of it, what a file may hold


class WeightsError(RuntimeError):
    """A file cannot be written, because the disk is full."""


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` when the block ends; an error leaves nothing, and a former file as it was.

    Raises WeightsError when the disk is full, and OSError for what else hinders, also where safetensors writes.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # as the user's umask has it; safetensors lets nobody else read its files
        yield temporary
        temporary.chmod(mode)
        temporary.replace(path)
    except (OSError, SafetensorError) as error:
        number = number_of(error)
        if number is None:
            raise
        reason = os.strerror(number)
        if number not in FULL:
            raise OSError(number, reason, str(path)) from error
        raise WeightsError(
            f"{path} cannot be written: {reason}; make room there or choose another folder. What was there before is "
            "untouched."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def number_of(error: OSError | SafetensorError) -> int | None:
    """The system's number of an error, which safetensors passes on as text; None for one that is not the system's."""
    if isinstance(error, OSError):
        return error.errno
    code = re.search(r"os error (\d+)", str(error))
    return int(code[1]) if code else None


def save_weights(tensors: Mapping[str, Tensor], path: Path, facts: Mapping[str, Any]) -> None:
    """Write contiguous copies of the tensors and, as JSON, the facts; raises as `whole` does.

    The facts are one entry, because safetensors writes several in an order of chance, and equal runs shall leave equal
    bytes.
    """
    copies = {name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()}
    with whole(path) as temporary:
        save_file(copies, temporary, {"genseg": json.dumps(facts)})


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file. Raises ValueError when it is no safetensors file."""
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(_unknown(path, error)) from None


def read_facts(path: Path) -> dict[str, Any]:
    """The facts in a file, lists as tuples; none where `save_weights` has not written it.

    Raises ValueError as `read_weights` does.
    """
    try:
        with safe_open(path, framework="pt") as content:
            text = (content.metadata() or {}).get("genseg")
    except SafetensorError as error:
        raise ValueError(_unknown(path, error)) from None
    return {} if text is None else dict(_with_tuples(json.loads(text)))


def _unknown(path: Path, error: SafetensorError) -> str:
    """What to do with a file that is no safetensors file."""
    text = f"{path} is not a safetensors file ({error})"
    if path.suffix in (".pth", ".pt", ".ckpt", ".bin"):
        text += (f"; write it as one: safetensors.torch.save_file(torch.load({str(path)!r}, weights_only=True), "
                 f"{str(path.with_suffix('.safetensors'))!r})")  # fmt: skip
    return text


def _with_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _with_tuples(v) for k, v in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
