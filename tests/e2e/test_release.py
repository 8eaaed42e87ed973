"""`make release`: the OCI layout is whole, the same module makes the same layout, and the SBOM lists what is in it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from stack import build, release, sbom


def blob(layout: Path, about: dict[str, Any]) -> bytes:
    """What a descriptor names; fails unless digest and size are right."""
    algorithm, _, digest = about["digest"].partition(":")
    content: bytes = (layout / "blobs" / str(algorithm) / str(digest)).read_bytes()
    assert hashlib.new(algorithm, content).hexdigest() == digest
    assert len(content) == about["size"]
    return content


def test_the_layout_leads_from_its_index_to_the_module(tmp_path: Path, artifacts: build.Artifacts) -> None:
    layout = tmp_path / "oci"
    image = release.write_layout(artifacts.wasm, layout, "0.1.0")
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (about,) = json.loads((layout / "index.json").read_text())["manifests"]
    assert about["digest"] == image
    manifest = json.loads(blob(layout, about))
    assert manifest["mediaType"] == about["mediaType"] == release.MANIFEST_TYPE
    assert json.loads(blob(layout, manifest["config"])) == {}
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == release.LAYER_TYPE
    assert blob(layout, layer) == artifacts.wasm.read_bytes()
    assert len(list((layout / "blobs" / "sha256").iterdir())) == 3


def test_the_same_module_makes_the_same_layout(tmp_path: Path, artifacts: build.Artifacts) -> None:
    def digests(name: str) -> list[tuple[str, str]]:
        layout = tmp_path / name
        release.write_layout(artifacts.wasm, layout, "0.1.0")
        return sorted(
            (str(file.relative_to(layout)), hashlib.sha256(file.read_bytes()).hexdigest())
            for file in layout.rglob("*")
            if file.is_file()
        )

    assert digests("one") == digests("other")


DIGEST = "ab" * 32


# Which of the workspace's dependencies tells them apart. Tests alone need `proptest`.
RESTS_ON = {"keybrake-module": "proxy-wasm", "keybrake-ledger": "rusqlite"}
PARTS = pytest.mark.parametrize(
    ("package", "target"), [("keybrake-module", build.TARGET), ("keybrake-ledger", build.host())]
)


@PARTS
def test_the_sbom_fits_its_schema_and_has_neither_time_nor_chance_in_it(package: str, target: str) -> None:
    document = sbom.write(package, target, DIGEST)
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.decode())
    assert wrong is None, wrong
    write = "import sys; from stack import sbom; sys.stdout.buffer.write(sbom.write(*sys.argv[1:]))"
    for seed in ("1", "2"):
        asked = [sys.executable, "-c", write, package, target, DIGEST]
        again = subprocess.run(
            asked, cwd=build.ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        assert again.stdout == document


@PARTS
def test_the_sbom_lists_what_cargo_links(package: str, target: str) -> None:
    document = json.loads(sbom.write(package, target, DIGEST))
    module = document["metadata"]["component"]
    assert (module["name"], module["hashes"]) == (package, [{"alg": "SHA-256", "content": DIGEST}])
    listed = {(one["name"], one["version"]) for one in [module, *document["components"]]}
    asked = ["cargo", "tree", "--locked", "-p", package, "--target", target, "--prefix", "none"]
    # `normal,no-proc-macro`: what only runs while it is built is not in it.
    tree = subprocess.run(
        [*asked, "--edges", "normal,no-proc-macro"], cwd=build.ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert listed == {(name, version[1:]) for name, version, *_ in map(str.split, tree.splitlines())}
    names = {name for name, _ in listed}
    assert names & {"proxy-wasm", "rusqlite", "proptest"} == {RESTS_ON[package]}
    for one in document["components"]:
        assert one["licenses"], one["name"]
        ours = one["name"].startswith("keybrake-")
        assert ("purl" in one, "hashes" in one) == (not ours, not ours), one["name"]


def test_a_tool_that_is_missing_is_one_line(tmp_path: Path) -> None:
    asked = [sys.executable, "-m", "stack.release"]
    said = subprocess.run(
        asked, cwd=build.ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stderr) == (1, "keybrake: cargo is missing: install Rust (https://rustup.rs)\n")


def test_the_version_is_the_workspaces() -> None:
    assert release.workspace_version() == "0.1.0"
