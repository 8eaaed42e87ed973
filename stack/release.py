"""Builds what a release consists of, into `dist/`: the filter's module, the ledger for machines like this one, what
each is made of (`sbom.py`), checksums, and an OCI layout of the module that any tool for images can push. The same
sources and the same toolchain make the same module, wherever they stand.

    python -m stack.release          # in the tests' environment
    python -m stack.release --check  # `make release`: builds a second time, from a copy in another folder, and compares
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stack import build, sbom
from stack.build import ROOT
from stack.errors import StackError

DIST = ROOT / "dist"
MODULE = "keybrake_filter.wasm"
LEDGER = "keybrake"
# What tools and meshes expect of a wasm module in an image.
CONFIG_TYPE = "application/vnd.module.wasm.config.v1+json"
LAYER_TYPE = "application/vnd.module.wasm.content.layer.v1+wasm"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


def build_module(source: Path, target: Path) -> Path:
    """Builds the module of the workspace in `source`. Raises `StackError`."""
    asked = ["build", "--locked", "--release", "--target", build.TARGET, "-p", "keybrake-module"]
    build.cargo("the filter", asked, source=source, environment=_without_paths(source, target))
    return target / build.TARGET / "release" / MODULE


def build_ledger(source: Path, target: Path) -> Path:
    """Builds the ledger of the workspace in `source` for this machine. Raises `StackError`."""
    asked = ["build", "--locked", *build.HOST_PROFILE, "-p", "keybrake-ledger", "--bin", LEDGER]
    build.cargo("the ledger", asked, source=source, environment=_without_paths(source, target))
    return target / "host" / LEDGER


def _without_paths(source: Path, target: Path) -> dict[str, str]:
    """The environment in which no path of this machine gets into what cargo builds."""
    cargo_home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    remapped = [f"--remap-path-prefix={source}=/keybrake", f"--remap-path-prefix={cargo_home}=/cargo"]
    return {
        **os.environ,
        "CARGO_ENCODED_RUSTFLAGS": "\x1f".join(remapped),
        "CARGO_INCREMENTAL": "0",
        "CARGO_TARGET_DIR": str(target),
    }


def write_layout(module: Path, folder: Path, version: str) -> str:
    """Writes an OCI layout with the module as its one image; gives the digest of its manifest."""
    shutil.rmtree(folder, ignore_errors=True)
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    layer = put(module.read_bytes(), LAYER_TYPE)
    layer["annotations"] = {"org.opencontainers.image.title": MODULE}
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": put(b"{}", CONFIG_TYPE),
        "layers": [layer],
        "annotations": {
            "org.opencontainers.image.title": "Keybrake's filter",
            "org.opencontainers.image.version": version,
            "org.opencontainers.image.licenses": "Apache-2.0",
        },
    }
    image = put(as_json(manifest), MANIFEST_TYPE)
    image["annotations"] = {"org.opencontainers.image.ref.name": version}
    (folder / "index.json").write_bytes(as_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [image]}))
    (folder / "oci-layout").write_bytes(as_json({"imageLayoutVersion": "1.0.0"}))
    return str(image["digest"])


def as_json(value: Mapping[str, Any]) -> bytes:
    """The one way in which it is written."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def workspace_version() -> str:
    """Of Cargo.toml."""
    asked = subprocess.run(
        ["cargo", "metadata", "--format-version", "1", "--no-deps"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    packages = json.loads(asked.stdout)["packages"]
    return str(next(package["version"] for package in packages if package["name"] == "keybrake-module"))


def release() -> str:
    """Writes `dist/`; gives the module's SHA-256."""
    target = ROOT / "target" / "dist"
    host = build.host()
    DIST.mkdir(exist_ok=True)
    digests = {}
    for built, name, package, platform in (
        (build_module(ROOT, target), MODULE, "keybrake-module", build.TARGET),
        (build_ledger(ROOT, target), f"{LEDGER}-{host}", "keybrake-ledger", host),
    ):
        shutil.copy(built, DIST / name)
        digests[name] = hashlib.sha256((DIST / name).read_bytes()).hexdigest()
        document = f"{name.removesuffix('.wasm')}.cdx.json"
        (DIST / document).write_bytes(sbom.write(package, platform, digests[name]))
        digests[document] = hashlib.sha256((DIST / document).read_bytes()).hexdigest()
        print(f"keybrake: {DIST.name}/{name}, {(DIST / name).stat().st_size:,} bytes, sha256:{digests[name]}")
    (DIST / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items())))
    image = write_layout(DIST / MODULE, DIST / "oci", workspace_version())
    print(f"keybrake: {DIST.name}/oci, image {image}")
    return digests[MODULE]


def check(digest: str) -> bool:
    """Whether a copy of every file that git knows, as it stands here, makes the same bytes in another folder."""
    with tempfile.TemporaryDirectory(prefix="keybrake-release-") as folder:
        copy = Path(folder) / "elsewhere"
        copy.mkdir()
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, listed.split("\0")):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)
        again = build_module(copy, Path(folder) / "target")
        return hashlib.sha256(again.read_bytes()).hexdigest() == digest


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m stack.release")
    parser.add_argument("--check", action="store_true", help="build a second time in another folder and compare")
    asked = parser.parse_args()
    try:
        build.check_tools()
        build.add_target()
        digest = release()
        if asked.check and not check(digest):
            raise StackError("a second build from a copy in another folder made other bytes")
    except StackError as error:
        print(f"keybrake: {error.line}", file=sys.stderr)
        return 1
    if asked.check:
        print("keybrake: a second build from a copy in another folder made the same bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
