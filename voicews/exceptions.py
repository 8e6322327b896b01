"""The errors that voicews raises: one small tree, messages that say expected and found."""

from voicews.close_codes import CloseCode

__all__ = [
    "AudioFormatError",
    "Busy",
    "CallFailed",
    "ConfigurationError",
    "ConnectFailed",
    "ImageFormatError",
    "ImageRefused",
    "InvalidMessage",
    "InvalidState",
    "NotAllowed",
    "Replaced",
    "UnknownMessage",
    "VoicewsError",
    "WriteTimeout",
]


class VoicewsError(Exception):
    """Base of every error that voicews raises on purpose."""


class ConfigurationError(VoicewsError, ValueError):
    """A setting or a parameter that can't be honoured; the message names it."""


class InvalidMessage(VoicewsError, ValueError):
    """A wire message that is not what its protocol says; never carries the payload."""


class UnknownMessage(InvalidMessage):
    """A well-formed wire message of a type that is not registered here: `type_name`."""

    def __init__(self, message: str, type_name: str) -> None:
        super().__init__(message)
        self.type_name = type_name


class AudioFormatError(VoicewsError, ValueError):
    """Audio in a shape that can't be taken: sample rate, channels, sample size."""


class ImageRefused(VoicewsError):
    """The client has no picture to give; the message is its reason."""


class ImageFormatError(VoicewsError, ValueError):
    """A picture is not what it should be; the message says what was expected and found."""


class InvalidState(VoicewsError, RuntimeError):
    """A step that the object's life cycle doesn't have from where it is."""


class NotAllowed(VoicewsError):
    """The caller may not do this; the message is safe to show to the caller."""


class Busy(VoicewsError):
    """There is no room for this now; the message is safe to show to the caller.

    `close_code` is the WebSocket close code that says so: 1013, or 1012 for a server that restarts.
    """

    def __init__(self, message: str, close_code: int = CloseCode.BUSY) -> None:
        super().__init__(message)
        self.close_code = close_code


class Replaced(VoicewsError):
    """Another connection gets the session that this one wanted."""

    def __init__(self) -> None:
        super().__init__("replaced by another connection")


class WriteTimeout(VoicewsError, TimeoutError):
    """A write to a peer made no progress for as long as the transport allows."""


class ConnectFailed(VoicewsError, ConnectionError):
    """Another server could not be reached, or refused the connection.

    `status` is the HTTP status of its refusal, if it gave one; `permanent` says that trying again
    would change nothing.
    """

    def __init__(self, message: str, *, status: int | None = None, permanent: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.permanent = permanent


class CallFailed(VoicewsError):
    """A telephony provider did not do what it was asked; the message says why, without secrets."""
