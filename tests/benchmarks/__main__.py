"""``python -m tests.benchmarks``: measure browser calls, then phone calls."""

from tests.benchmarks import browser_calls, phone_calls

browser_calls.main()
print()
phone_calls.main()
