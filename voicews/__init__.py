"""Live voice over WebSockets for Django."""

__version__ = "0.1.0"
