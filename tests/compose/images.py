"""The base images that the Dockerfile names, made here under the same names: no registry is asked.

Debian's is made by debootstrap; Envoy's is that with the binary that the local stack runs. Ledger, sandbox and filter
are those that `make run` builds (`BINARIES=prebuilt`): no Rust image can be had without a registry, so the stage that
compiles in a container is not run by this test.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from engine import Docker

from stack import build, envoy_binary

ROOT = build.ROOT
COMPOSE = ROOT / "deploy" / "compose"
# Debian's release in the image's name.
RELEASE = "bookworm"
ROOTFS = ROOT / ".tools" / "compose" / f"debian-{RELEASE}.tar"


def named(argument: str) -> str:
    """The image that the Dockerfile names in this argument."""
    found = re.search(rf"^ARG {argument}=(\S+)$", (COMPOSE / "Dockerfile").read_text(), re.MULTILINE)
    assert found is not None, argument
    return found[1]


def prepare() -> build.Artifacts:
    """What needs a network or a compiler: Debian's files, Envoy's binary, the binaries of the workspace."""
    if not ROOTFS.exists():
        print(f"compose test: making a Debian {RELEASE} with debootstrap", flush=True)
        ROOTFS.parent.mkdir(parents=True, exist_ok=True)
        made = ROOTFS.with_suffix(".new")
        subprocess.run(["debootstrap", "--variant=minbase", RELEASE, str(made)], check=True, stdout=subprocess.DEVNULL)
        packed = ROOTFS.with_suffix(".part")
        leave_out = ["./var/cache/apt", "./var/lib/apt/lists", "./usr/share/doc", "./usr/share/locale", "./dev"]
        excluded = [f"--exclude={folder}/*" for folder in leave_out]
        subprocess.run(["tar", "-C", str(made), *excluded, "-cf", str(packed), "."], check=True)
        shutil.rmtree(made)
        packed.replace(ROOTFS)
    envoy_binary.find({})
    return build.build()


def tree(home: Path, artifacts: build.Artifacts) -> Path:
    """A copy of what the images are built from, with `prebuilt`; gives its folder with the compose file. So secrets
    that a user has made in the repository are neither used nor touched."""
    compose = home / "tree" / "deploy" / "compose"
    shutil.copytree(COMPOSE, compose, ignore=shutil.ignore_patterns("secrets", "prebuilt"))
    shutil.copytree(ROOT / "envoy", home / "tree" / "envoy")
    shutil.copy(ROOT / ".dockerignore", home / "tree")
    prebuilt = compose / "prebuilt"
    prebuilt.mkdir()
    for path, name in (
        (artifacts.ledger, "keybrake"),
        (artifacts.sandbox, "keybrake-sandbox"),
        (artifacts.wasm, "keybrake_filter.wasm"),
    ):
        shutil.copyfile(path, prebuilt / name)
    return compose


def load(docker: Docker, home: Path) -> None:
    """Puts the base images into the engine."""
    docker.run("docker", "import", ROOTFS, named("DEBIAN_IMAGE"))
    context = home / "envoy-image"
    context.mkdir()
    shutil.copyfile(envoy_binary.find({}), context / "envoy")
    (context / "Dockerfile").write_text(f"FROM {named('DEBIAN_IMAGE')}\nCOPY --chmod=0755 envoy /usr/local/bin/envoy\n")
    docker.run("docker", "build", "-t", named("ENVOY_IMAGE"), context)
