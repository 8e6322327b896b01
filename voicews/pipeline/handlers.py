"""Handlers that take as many of an event's arguments as they want."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def taking_first_arguments(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A function that offers `handler` all it is called with: `handler` gets the first ones that
    it takes.
    """
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):  # a builtin that doesn't say
        return handler
    kinds = [parameter.kind for parameter in parameters]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return handler
    count = sum(
        kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        for kind in kinds
    )
    if inspect.iscoroutinefunction(handler):

        async def call(*args: Any) -> Any:
            return await handler(*args[:count])

        # Who calls it may ask whether it is to be awaited.
        return call
    return lambda *args: handler(*args[:count])
