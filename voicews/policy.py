"""What becomes of a newcomer to a session that somebody holds: a setting, so it needs nothing."""

from __future__ import annotations

import enum


class Policy(enum.Enum):
    """What becomes of a newcomer to a session that somebody holds."""

    #: It wins.
    REPLACE = "replace"
    #: It is refused, unless the holder turns out to be gone.
    REJECT = "reject"
