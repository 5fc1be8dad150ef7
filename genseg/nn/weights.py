"""Files of weights: written whole or not at all; their metadata says in JSON how to use them, under
"genseg"."""

import contextlib
import errno
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from genseg import __version__
from genseg.core.files import replacing
from genseg.schema import Choices, ConfigError, UnknownKey, build

_T = TypeVar("_T")
_Module = TypeVar("_Module", bound=nn.Module)
_ANEW = "the file is damaged, or was not written by genseg: make it anew"
# the disk, the user's share of it, what a file may hold
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class WeightsError(RuntimeError):
    """A file cannot be written, because the disk is full."""


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Where to write what becomes `path` when the block ends; an error leaves nothing, and a former
    file as it was.

    Raises WeightsError when the disk is full, and OSError for what else hinders, also where
    safetensors writes.
    """
    try:
        with replacing(path) as temporary:
            yield temporary
    except (OSError, SafetensorError) as error:
        number = number_of(error)
        if number is None:
            raise
        reason = os.strerror(number)
        if number not in FULL:
            raise OSError(number, reason, str(path)) from error
        raise WeightsError(
            f"{path} cannot be written: {reason}; make room there or choose another folder. What "
            "was there before is untouched."
        ) from error


def number_of(error: OSError | SafetensorError) -> int | None:
    """The system's number of an error, which safetensors passes on as text; None for one that is
    not the system's."""
    if isinstance(error, OSError):
        return error.errno
    code = re.search(r"os error (\d+)", str(error))
    return int(code[1]) if code else None


def save_weights(tensors: Mapping[str, Tensor], path: Path, facts: Mapping[str, Any]) -> None:
    """Write contiguous copies of the tensors and, as JSON, the facts; raises as `whole` does.

    The facts are one entry, because safetensors writes several in an order of chance, and equal
    runs shall leave equal bytes.
    """
    copies = {name: x.detach().cpu().contiguous().clone() for name, x in tensors.items()}
    with whole(path) as temporary:
        save_file(copies, temporary, {"genseg": json.dumps(facts)})


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file. Raises ValueError when it is no safetensors file, or holds numbers
    that are not finite."""
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(_unknown(path, error)) from None
    spoilt = [name for name, x in tensors.items() if x.is_floating_point() and not _finite(x)]
    if spoilt:
        raise ValueError(
            f"{path}: {len(spoilt)} of {len(tensors)} tensors hold nan or infinity (the first: "
            f"{min(spoilt)}), so nothing can be computed with them; take a file of an earlier "
            "step, or train anew"
        )
    return tensors


def _finite(x: Tensor) -> bool:
    # torch asks that of no 8-bit float
    return bool((x if x.element_size() > 1 else x.float()).isfinite().all())


def read_facts(path: Path) -> dict[str, Any]:
    """The facts in a file as JSON has them, unchecked; none where `save_weights` has not written
    it.

    Raises ValueError as `read_weights` does, and for facts that are no section of JSON.
    """
    try:
        with safe_open(path, framework="pt") as content:
            text = (content.metadata() or {}).get("genseg")
    except SafetensorError as error:
        raise ValueError(_unknown(path, error)) from None
    if text is None:
        return {}
    try:
        facts = json.loads(text)
    # no JSON, a number of thousands of digits, or brackets without end
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: its facts cannot be read ({error}); {_ANEW}") from None
    if not isinstance(facts, dict):
        raise ValueError(
            f"{path}: its facts are a {type(facts).__name__}, wanted a section of JSON; {_ANEW}"
        )
    return facts


def checked_facts(
    path: Path, facts: Mapping[str, Any], kind: type[_T], *, choices: Choices | None = None
) -> _T:
    """The facts of a file as the dataclass that describes files of its kind.

    What others have written is not believed: raises ValueError with the file, the key, what was got
    and what to do.
    """
    try:
        return build(kind, dict(facts), choices=choices)
    except ConfigError as error:
        raise ValueError(f"{path}: {error}; {_advice(error, facts.get('genseg'))}") from None


def _advice(error: ConfigError, version: object) -> str:
    """What to do with a file whose facts do not fit."""
    this = f"this is {__version__}"
    if isinstance(version, str) and _numbers(version) > _numbers(__version__):
        return f"the file was written by a newer genseg, {version[:40]} ({this}): update genseg"
    if isinstance(error, UnknownKey):
        return (
            f"a newer genseg may have written the file ({this}): update genseg, or make the file "
            "anew with this one"
        )
    return _ANEW


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"[0-9]{1,9}", version)]


def fill(make: Callable[[], _Module], path: Path) -> _Module:
    """The module that `make` builds from the facts of a file, with the tensors of that file.

    Its shapes are compared with the file's before it takes memory: a few wrong digits may ask for
    more than there is. Raises ValueError when they differ, or when there is no such module.
    """
    tensors = read_weights(path)
    try:
        with torch.device("meta"), _RealRates():
            planned = {name: x.shape for name, x in make().state_dict().items()}
    # what torch says to sizes that cannot be
    except (ValueError, RuntimeError, ArithmeticError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path}: there is no model as its facts describe it ({reason}); {_ANEW}"
        ) from None
    found = {name: x.shape for name, x in tensors.items()}
    if planned != found:
        unlike = sorted(
            name for name in planned.keys() | found.keys() if planned.get(name) != found.get(name)
        )
        name = unlike[0]
        raise ValueError(
            f"{path}: {len(unlike)} of its tensors are not those of the model that its facts "
            f"describe; the first, {name}, is {_shape(found.get(name))} and not "
            f"{_shape(planned.get(name))}; {_ANEW}"
        )
    module = make()
    module.load_state_dict(tensors)
    return module


class _RealRates(TorchFunctionMode):
    """Lets the constructors of some encoders read numbers that they have laid out evenly (their
    drop rates)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        return func(*args, **({"device": "cpu"} | kwargs if func is torch.linspace else kwargs))


def _shape(shape: torch.Size | None) -> str:
    return "missing" if shape is None else " x ".join(map(str, shape)) or "a number"


def _unknown(path: Path, error: SafetensorError) -> str:
    """What to do with a file that is no safetensors file."""
    text = f"{path} is not a safetensors file ({error})"
    if path.suffix in (".pth", ".pt", ".ckpt", ".bin"):
        text += (
            f"; write it as one: safetensors.torch.save_file(torch.load({str(path)!r}, "
            f"weights_only=True), {str(path.with_suffix('.safetensors'))!r})"
        )
    return text
