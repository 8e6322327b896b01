"""Model fields that take any text: what no database stores is replaced, what is too long is cut.

Texts come from clients, providers, bots and operators. PostgreSQL takes no U+0000, and no database
takes half of a surrogate pair, which JSON can carry.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from django.db import models

from voicews.texts import encodable

REPLACEMENT = "\ufffd"

#: U+0000 as JSON writes it.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")

if TYPE_CHECKING:
    CharField = models.CharField[Any, Any]
    TextField = models.TextField[Any, Any]
    JSONField = models.JSONField[Any, Any]
else:
    CharField, TextField, JSONField = models.CharField, models.TextField, models.JSONField


def storable(text: str) -> str:
    """The text with U+FFFD for U+0000 and for each half of a surrogate pair that stands alone."""
    return encodable(text.replace("\0", REPLACEMENT))


def storable_json(value: Any) -> Any:
    """JSON data with `storable` texts. Raises `TypeError` or `ValueError` if it is none."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    clean = storable(text)
    if "\\u0000" in clean:
        clean = _NUL.sub(rf"\1{REPLACEMENT}", clean)
    return value if clean is text or clean == text else json.loads(clean)


class _PlainInMigrations:
    """For the database it is the field that it derives from."""

    def deconstruct(self) -> Any:
        name, _path, args, kwargs = super().deconstruct()  # type: ignore[misc]
        plain = type(self).__mro__[2]
        return name, f"django.db.models.{plain.__name__}", args, kwargs


class StorableCharField(_PlainInMigrations, CharField):
    """A `CharField` that stores whatever it is given, and finds it again."""

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return storable(value)[: self.max_length] if isinstance(value, str) else value


class StorableTextField(_PlainInMigrations, TextField):
    """A `TextField` that stores whatever it is given."""

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return storable(value) if isinstance(value, str) else value


class StorableJSONField(_PlainInMigrations, JSONField):
    """A `JSONField` that stores any texts."""

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return value if hasattr(value, "resolve_expression") else storable_json(value)
