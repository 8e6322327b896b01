"""The browser client as an npm package: the same files, with types."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

import voicews

pytestmark = pytest.mark.program

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "voicews" / "static" / "voicews"
ESBUILD = ROOT / "tests" / "interop" / "node_modules" / ".bin" / "esbuild"

#: What a TypeScript project writes.
CONSUMER = """
import {
  ProtobufFrameSerializer, VoiceClient, VoiceError, WebSocketTransport, pushToTalk,
} from "voicews";

const client = new VoiceClient({
  transport: new WebSocketTransport({
    serializer: new ProtobufFrameSerializer(), recorderSampleRate: 8000, playerSampleRate: 8000,
  }),
  callbacks: {
    onBotOutput: ({ text, will_be_spoken }) => console.log(text.trim(), will_be_spoken ? 1 : 0),
    onRemoteAudioLevel: (level, participant) => console.log(level.toFixed(1), participant.id),
  },
});
client.on("onDisconnected", ({ code, error }) => {
  const what: VoiceError | null = error;
  console.log(what?.code.length, code === null);
});
pushToTalk(client, document.querySelector("button")!);
export const ready: Promise<string | undefined> = client
  .connect({ endpoint: "/voice/connect/", requestData: { bot: "echo" } })
  .then(({ voicews }) => voicews?.session);
// @ts-expect-error there is no such event
client.on("onNothing", () => {});
// @ts-expect-error a rate is a number
new WebSocketTransport({ recorderSampleRate: "8k" });
"""

TSCONFIG = {
    "compilerOptions": {
        "strict": True,
        "noEmit": True,
        "target": "ES2022",
        "module": "ES2022",
        "moduleResolution": "bundler",
        "lib": ["ES2022", "DOM", "DOM.Iterable"],
        "types": [],
    },
    "files": ["main.ts"],
}


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has installed the packed package."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.fail("npm was not found; run: make setup-test")
    directory = tmp_path_factory.mktemp("project")
    run(npm, "pack", "--silent", "--pack-destination", directory, cwd=ROOT)
    (tarball,) = directory.glob("*.tgz")
    modules = directory / "node_modules"
    with tarfile.open(tarball) as archive:
        archive.extractall(modules, filter="data")
    (modules / "package").rename(modules / "voicews")
    return directory


def test_it_has_the_version_of_all_else() -> None:
    assert json.loads((ROOT / "package.json").read_text())["version"] == voicews.__version__
    assert f'"{voicews.__version__}"' in (STATIC / "version.js").read_text()


def test_it_holds_the_files_that_django_serves(project: Path) -> None:
    package = project / "node_modules" / "voicews"
    scripts = {
        path.name: path.read_bytes() for path in (package / STATIC.relative_to(ROOT)).iterdir()
    }
    assert "index.js" in scripts
    assert all(path.read_bytes() == scripts[path.name] for path in STATIC.glob("[!d]*.js"))
    others = {path.parts[0] for path in (one.relative_to(package) for one in package.rglob("*"))}
    assert others == {"voicews", "types", "package.json", "README.md", "LICENSE"}


def test_it_is_typed(project: Path) -> None:
    (project / "main.ts").write_text(CONSUMER)
    (project / "tsconfig.json").write_text(json.dumps(TSCONFIG))
    run(ROOT / "node_modules" / ".bin" / "tsc", "-p", project, cwd=project)


def test_bundlers_take_it(project: Path) -> None:
    (project / "page.js").write_text('export { VoiceClient } from "voicews";\n')
    worklets = ("capture-worklet", "playback-worklet")
    entries = ["page.js", *(f"{name}=voicews/{name}.js" for name in worklets)]
    run(ESBUILD, *entries, "--bundle", "--format=esm", "--outdir=out", cwd=project)
    page = (project / "out" / "page.js").read_text()
    for name in worklets:
        # Where the page's script looks for it, and whole.
        assert f'new URL("./{name}.js", import.meta.url)' in page
        worklet = (project / "out" / f"{name}.js").read_text()
        assert "registerProcessor" in worklet
        assert not re.search(r"^import\b", worklet, re.MULTILINE)
