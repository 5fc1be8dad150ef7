"""A device that stands in for a GPU, on a machine that has none: tensors of it are those of the
processor with a mark, and an operation that a GPU would refuse is refused."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda")
MARK = "_other_device"
MOVES = (Tensor.to, Tensor.cpu, Tensor.cuda)
READS = (Tensor.numpy, Tensor.__array__)  # what only the processor's memory gives


def marked(x: object) -> bool:
    """Whether x is a tensor of the device."""
    return isinstance(x, Tensor) and hasattr(x, MARK)


def put(x: Any) -> Any:
    """Tensors, and the modules that hold some, on the device."""
    if isinstance(x, nn.Module):
        for tensor in (*x.parameters(), *x.buffers()):
            setattr(tensor, MARK, True)
        return x
    return tree_map(_mark, x)


def _mark(x: Any) -> Any:
    if isinstance(x, Tensor):
        setattr(x, MARK, True)
    return x


@contextmanager
def other_device() -> Iterator[None]:
    """While entered, tensors that are `put` lie on another device than all others."""
    kept = torch.Generator
    torch.Generator = lambda device="cpu": kept()  # type: ignore[misc,assignment]
    try:
        with _Refusing():
            yield
    finally:
        torch.Generator = kept  # type: ignore[misc]


class _Refusing(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        tensors = [x for x in tree_leaves((args, named)) if isinstance(x, Tensor)]
        there = any(map(marked, tensors))
        if getattr(func, "__self__", None) in (Tensor.device, Tensor.is_cuda):
            known = DEVICE if there else torch.device("cpu")
            return known if func.__self__ is Tensor.device else there  # type: ignore[attr-defined]
        if func in MOVES:
            return self._moved(func, tensors, args, named)
        if there and func in READS:
            raise TypeError("can't convert a tensor of another device to numpy")
        wanted = named.get("device")
        if wanted is not None:
            there = torch.device(wanted).type == DEVICE.type
            named["device"] = "cpu"
        elif there:
            self._check(func, tensors, args)
        found = func(*args, **named)
        return tree_map(_mark, found) if there else found

    def _moved(
        self,
        func: Callable[..., Any],
        tensors: Sequence[Tensor],
        args: Sequence[Any],
        named: Mapping[str, Any],
    ) -> Any:
        there = marked(tensors[0])
        if func is Tensor.cpu:
            there = False
        elif len(tensors) > 1:
            there = marked(tensors[1])
        plain = []
        for x in (*args[1:], *named.values()):
            if isinstance(x, str | torch.device):
                there = torch.device(x).type == DEVICE.type
            elif isinstance(x, torch.dtype):
                plain.append(x)
            elif isinstance(x, Tensor):
                plain.append(x.dtype)
        found = tensors[0].to(plain[0] if plain else tensors[0].dtype, copy=True)
        return _mark(found) if there else _unmark(found)

    def _check(self, func: Callable[..., Any], tensors: Sequence[Tensor], args: Any) -> None:
        """Refuse what a GPU refuses: tensors of two devices, but for single numbers, indices of the
        processor, and copies."""
        if func is Tensor.copy_:
            return
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            indices = [x for x in tree_leaves(args[1]) if isinstance(x, Tensor)]
            strict = [args[0]] if func is Tensor.__getitem__ or not indices else [args[0], args[2]]
            others = [x for x in indices if marked(x)]
            tensors = [x for x in (*strict, *others) if isinstance(x, Tensor)]
        exact = func in (torch.cat, torch.stack)
        if any(not marked(x) and (x.dim() or exact) for x in tensors):
            raise RuntimeError(
                f"{getattr(func, '__name__', func)}: expected all tensors to be on the same device"
            )


def _unmark(x: Tensor) -> Tensor:
    if hasattr(x, MARK):
        delattr(x, MARK)
    return x
