"""Channels consumers: the sockets of calls. `base` has what every socket of the app shares."""

from voicews.consumers.voice import SessionConsumer, VoiceConsumer

__all__ = ["SessionConsumer", "VoiceConsumer"]
