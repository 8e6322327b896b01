"""Pictures: coding them, and sending them over a link that also carries audio."""
