"""Types and shapes of genseg's functions, checked in every call."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, ForwardRef, get_args

import jaxtyping

CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"  # an int is a float
ORIGINAL = jaxtyping.jaxtyped
SCOPE = ORIGINAL("context")  # in it a letter is one size


def install() -> None:
    """Check what is imported of genseg from now on."""
    jaxtyping.jaxtyped = jaxtyped
    jaxtyping.install_import_hook("genseg", CHECKER)


def jaxtyped(made: Any = None, *, typechecker: Callable[..., Any]) -> Any:
    """What jaxtyping's decorator of this name finds, in one pass.

    The original binds each call to its signature and checks arguments twice, to say more of a
    mistake: a fifth of the time of a training here. It still does where names or generators need
    it.
    """
    if made is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if inspect.isclass(made):
        if dataclasses.is_dataclass(made) and "__init__" in vars(made):
            made.__init__ = jaxtyped(made.__init__, typechecker=typechecker)
        return made
    if not isinstance(made, FunctionType) or inspect.isgeneratorfunction(made):
        return ORIGINAL(made, typechecker=typechecker)
    hints = [part for hint in made.__annotations__.values() for part in _parts(hint)]
    arrays = [h for h in hints if inspect.isclass(h) and issubclass(h, jaxtyping.AbstractArray)]
    named = any(isinstance(hint, str | ForwardRef) for hint in hints)
    if named or any("{" in hint.dim_str for hint in arrays):
        return ORIGINAL(made, typechecker=typechecker)
    checked = typechecker(made)
    if not arrays:
        return checked

    @functools.wraps(made)
    def in_scope(*args: Any, **kwargs: Any) -> Any:
        with SCOPE:
            return checked(*args, **kwargs)

    return in_scope


def _parts(hint: Any) -> list[Any]:
    """A hint and all that it is made of."""
    inner = hint if isinstance(hint, list) else get_args(hint)
    return [hint, *(part for one in inner for part in _parts(one))]
