"""Types and shapes of genseg's functions, checked in every call."""

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, ForwardRef, get_args

import jaxtyping
from jaxtyping import _decorator
from jaxtyping._array_types import _MetaAbstractArray
from jaxtyping._storage import pop_shape_memo, push_shape_memo

ORIGINAL = _decorator.jaxtyped
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"  # an int is a float


def install() -> None:
    """Check what is imported of genseg from now on."""
    jaxtyping.jaxtyped = _decorator.jaxtyped = jaxtyped  # the latter is for dataclasses
    jaxtyping.install_import_hook("genseg", CHECKER)


def jaxtyped(fn: Any = None, *, typechecker: Callable[..., Any]) -> Any:
    """What jaxtyping's decorator of this name finds, found in one pass.

    The original binds each call to its signature, and checks arguments before and after it, to say
    more of a mistake; that is half of the time of a training here. Where a call needs more than
    one pass, the original does it.
    """
    if fn is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if not isinstance(fn, FunctionType) or inspect.isgeneratorfunction(fn):
        return ORIGINAL(fn, typechecker=typechecker)
    if fn.__globals__["__name__"] == __name__:  # of a dataclass that inherits its __init__
        return fn
    hints = [part for hint in fn.__annotations__.values() for part in _parts(hint)]
    arrays = [hint for hint in hints if isinstance(hint, _MetaAbstractArray)]
    named = any(isinstance(hint, str | ForwardRef) for hint in hints)
    if named or any("{" in hint.dim_str for hint in arrays):
        return ORIGINAL(fn, typechecker=typechecker)
    checked = typechecker(fn)
    if not arrays:
        return checked

    @functools.wraps(fn)
    def one_scope(*args: Any, **kwargs: Any) -> Any:
        """A letter is one size in all arguments and the result."""
        push_shape_memo({})
        try:
            return checked(*args, **kwargs)
        finally:
            pop_shape_memo()

    return one_scope


def _parts(hint: Any) -> list[Any]:
    """A hint and all that it is made of."""
    inner = hint if isinstance(hint, list) else get_args(hint)
    return [hint, *(part for one in inner for part in _parts(one))]
