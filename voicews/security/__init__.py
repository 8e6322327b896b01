"""Who may come in: tokens, origins, addresses, users."""
