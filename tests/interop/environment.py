"""Install what the interoperability tests and the benchmarks compare voicews with.

``python -m tests.interop.environment`` makes ``.venv-pipecat`` with Pipecat as requirements.txt
pins it and voicews beside it, and bundles Pipecat's browser client for the test page. What is up to
date is left alone.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

INTEROP_DIR = Path(__file__).resolve().parent
REPOSITORY_DIR = INTEROP_DIR.parent.parent
PIPECAT_VENV = REPOSITORY_DIR / ".venv-pipecat"
PIPECAT_PYTHON = PIPECAT_VENV / "bin" / "python"
REQUIREMENTS = INTEROP_DIR / "requirements.txt"
PROJECT = REPOSITORY_DIR / "pyproject.toml"
# What the demo project and the tests that run in there need on top.
PROJECT_REQUIREMENTS = (
    "dj-database-url",
    "hypothesis",
    "pytest",
    "pytest-asyncio",
    "pytest-django",
)
PAGE_DIR = INTEROP_DIR / "page"
BUILD_DIR = INTEROP_DIR / "build"
BUNDLE = BUILD_DIR / "pipecat.js"
NODE_PACKAGES = (INTEROP_DIR / "package.json", INTEROP_DIR / "package-lock.json")
BUNDLE_SOURCES = (
    *NODE_PACKAGES,
    PAGE_DIR / "pipecat.js",
    PAGE_DIR / "basic-setup.jsx",
    *sorted((REPOSITORY_DIR / "voicews" / "static" / "voicews").glob("*.js")),
)


def _digest(paths: tuple[Path, ...]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _is_current(marker: Path, digest: str) -> bool:
    return marker.exists() and marker.read_text() == digest


def install_pipecat() -> None:
    """Make ``.venv-pipecat`` unless it already holds what requirements.txt says."""
    marker = PIPECAT_VENV / ".requirements"
    digest = _digest((REQUIREMENTS,))
    if _is_current(marker, digest):
        return
    print(f"installing Pipecat into {PIPECAT_VENV.name}", flush=True)
    venv.create(PIPECAT_VENV, clear=True, with_pip=True)
    _pip_install("--requirement", str(REQUIREMENTS))
    marker.write_text(digest)


def install_voicews() -> None:
    """Install this repository into ``.venv-pipecat``, without touching what is pinned there."""
    marker = PIPECAT_VENV / ".voicews"
    digest = _digest((REQUIREMENTS, PROJECT, Path(__file__)))
    if _is_current(marker, digest):
        return
    print(f"installing voicews into {PIPECAT_VENV.name}", flush=True)
    _pip_install(
        *("--requirement", str(REQUIREMENTS), "--editable", f"{REPOSITORY_DIR}[uvicorn,pipecat]"),
        *PROJECT_REQUIREMENTS,
    )
    marker.write_text(digest)


def _pip_install(*arguments: str) -> None:
    command = (
        str(PIPECAT_PYTHON),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    )
    subprocess.run([*command, *arguments], check=True)


def bundle_browser_clients() -> None:
    """Bundle the test pages' scripts with npm and esbuild unless the bundles are current."""
    marker = BUNDLE.with_suffix(".digest")
    digest = _digest(BUNDLE_SOURCES)
    if BUNDLE.exists() and _is_current(marker, digest):
        return
    print("bundling Pipecat's browser client", flush=True)
    packages = INTEROP_DIR / "node_modules" / ".digest"
    packages_digest = _digest(NODE_PACKAGES)
    if not _is_current(packages, packages_digest):
        # The client's dependencies can do without their install scripts; so can esbuild.
        _npm("ci", "--ignore-scripts", "--no-fund", "--no-audit")
        packages.write_text(packages_digest)
    _npm("run", "build")
    marker.write_text(digest)


def _npm(*arguments: str) -> None:
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm was not found; on Debian: apt-get install nodejs npm")
    subprocess.run([npm, "--silent", *arguments], cwd=INTEROP_DIR, check=True)


def pipecat_environ() -> dict[str, str]:
    """Environment variables for a process of ``.venv-pipecat`` that imports this repository."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY_DIR), "LOGURU_LEVEL": "WARNING"}


def main() -> None:
    install_pipecat()
    install_voicews()
    bundle_browser_clients()


if __name__ == "__main__":
    main()
