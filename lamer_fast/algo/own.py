"""`module:function` of the user's own: found, its parameters read, called with its name in every error."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from lamer_fast.envs.contract import describe
from lamer_fast.envs.factory import find


def function(name: str, key: str, parameters: Sequence[str]) -> Callable[..., Any]:
    """The function that setting `key` names.

    Raises:
        ValueError: it cannot be imported, or does not take `parameters`.
    """
    found = find(name, key)
    wanted = f"a function of ({', '.join(parameters)})"
    if not callable(found):
        raise ValueError(f"{key} = {name!r} is {type(found).__name__}, expected {wanted}")
    try:
        inspect.signature(found).bind(*parameters)
    except TypeError:
        given = ", ".join(inspect.signature(found).parameters)
        raise ValueError(f"{key} = {name!r} takes ({given}), expected {wanted}") from None
    except ValueError:  # no signature to read, as of some compiled functions
        pass
    own: Callable[..., Any] = found
    return own


def called(name: str, key: str, own: Callable[..., Any], *arguments: Any) -> Any:
    """Its result; ValueError with its own words when it raises."""
    try:
        return own(*arguments)
    except Exception as error:
        raise ValueError(f"{key} = {name!r} {describe(error)}") from error
