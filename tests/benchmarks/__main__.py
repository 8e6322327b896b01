"""``python -m tests.benchmarks``: measure browser calls, pictures, phone calls, then takeovers."""

from tests.benchmarks import browser_calls, phone_calls, pictures, takeover

browser_calls.main()
print()
pictures.main()
print()
phone_calls.main()
print()
takeover.main()
