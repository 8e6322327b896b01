"""One module for each telephony company. Nothing here imports Django."""
