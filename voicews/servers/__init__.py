"""What we know of the ASGI servers: uvicorn, Daphne, and any other."""
