"""``python -m tests.benchmarks``: measure browser calls."""

from tests.benchmarks.browser_calls import main

main()
