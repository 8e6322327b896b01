"""What a call costs, next to peers in the same run. Nothing here is a test."""
