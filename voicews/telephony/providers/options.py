"""What a provider's options are: each is a field of the provider's class, and said nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, get_args, get_type_hints

from voicews.exceptions import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a provider, such as Twilio's `auth_token`.

    Its values are of `type`, and one of `choices` if there are any. Without an option that
    `is_required` there is no provider; one that is `needed_to` do something is asked for then.
    """

    name: str
    meaning: str
    type: type[str] | type[int] | type[float] | type[bool]
    choices: tuple[str | int, ...] = ()
    is_required: bool = False
    is_secret: bool = False
    needed_to: str = ""
    #: Part of the path of our requests.
    is_in_path: bool = False

    def read(self, value: object) -> str | int | float | bool:
        """The option's value, given as such or as text, as it comes from an environment.

        Raises `ConfigurationError` with the option's name, and without the value.
        """
        if self.type is bool:
            return self._read_bool(value)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ConfigurationError(f"{self.name}: expected a string or a number")
        try:
            text = str(value).strip()
        except ValueError:  # an int of more than 4300 digits
            raise ConfigurationError(f"{self.name}: expected a shorter number") from None
        # A key in PEM format has lines.
        if not "".join(text.splitlines()).isprintable():
            raise ConfigurationError(f"{self.name}: expected characters that can be shown")
        if self.choices:
            for choice in self.choices:
                if str(choice) == text:
                    return choice
            names = ", ".join(map(str, self.choices))
            raise ConfigurationError(f"{self.name}: expected one of {names}")
        try:
            return self.type(text)
        except ValueError:
            raise ConfigurationError(f"{self.name}: expected a number ({self.meaning})") from None

    def _read_bool(self, value: object) -> bool:
        text = str(value).lower() if isinstance(value, str | bool) or value in (0, 1) else ""
        known = _BOOLEANS.get(text)
        if known is None:
            raise ConfigurationError(f"{self.name}: expected true or false ({self.meaning})")
        return known


_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


def option(
    meaning: str,
    default: str | float = "",
    *,
    required: bool = False,
    secret: bool = False,
    needed_to: str = "",
    in_path: bool = False,
) -> Any:
    """A field of a provider's class that is an option; a secret stays out of the repr."""
    metadata = {
        "meaning": meaning,
        "required": required,
        "needed_to": needed_to,
        "in_path": in_path,
    }
    return field(default=default, repr=not secret, metadata=metadata)


@cache
def options_of(provider: type[Any]) -> tuple[Option, ...]:
    """The options that a provider's class declares, in its order."""
    types = get_type_hints(provider)
    found = []
    for entry in fields(provider):
        if "meaning" not in entry.metadata:
            continue
        choices = get_args(types[entry.name])
        found.append(
            Option(
                name=entry.name,
                meaning=entry.metadata["meaning"],
                type=type(choices[0]) if choices else types[entry.name],
                choices=choices,
                is_required=entry.metadata["required"],
                is_secret=not entry.repr,
                needed_to=entry.metadata["needed_to"],
                is_in_path=entry.metadata["in_path"],
            )
        )
    return tuple(found)
