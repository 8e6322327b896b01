"""Where a server spends its time, by py-spy."""

import asyncio
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

SAMPLES_PER_SECOND = 250
TOP = 40
# py-spy takes a pool's thread that waits for work for a busy one.
IDLE_THREAD = "_worker (concurrent/futures/thread.py"


def _py_spy() -> str:
    beside_python = Path(sys.executable).with_name("py-spy")
    found = str(beside_python) if beside_python.exists() else shutil.which("py-spy")
    if found is None:
        sys.exit("py-spy was not found; run: make setup")
    return found


async def profile(pid: int, seconds: float) -> str:
    """Sample a process for ``seconds`` and list its functions by their own and their total time."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "stacks"
        process = await asyncio.create_subprocess_exec(
            _py_spy(),
            *("record", "--pid", str(pid), "--duration", str(max(1, round(seconds)))),
            *("--rate", str(SAMPLES_PER_SECOND), "--format", "raw", "--function"),
            *("--output", str(output)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        if process.returncode:
            sys.exit(f"py-spy failed: {errors.decode()}")
        return _table(output.read_text())


def _table(stacks: str) -> str:
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    samples = 0
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        functions = stack.split(";")
        if functions[-1].startswith(IDLE_THREAD):
            continue
        own[functions[-1]] += int(count)
        for function in set(functions):
            total[function] += int(count)
        samples += int(count)
    lines = [f"{'own %':>7} {'total %':>8}  function ({samples} samples)"]
    lines += [
        f"{own[name] / samples:7.1%} {count / samples:8.1%}  {name}"
        for name, count in sorted(total.items(), key=lambda item: -own[item[0]])[:TOP]
    ]
    return "\n".join(lines)
