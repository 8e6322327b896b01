"""``python -m tests.benchmarks``: measure browser calls, phone calls, then takeovers."""

from tests.benchmarks import browser_calls, phone_calls, takeover

browser_calls.main()
print()
phone_calls.main()
print()
takeover.main()
