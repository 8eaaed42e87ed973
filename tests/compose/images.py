"""The images that the Dockerfile and the compose file name, made here under the same names: no registry is asked.

Debian's is made by debootstrap; Envoy's is that with the binary that the local stack runs, PostgreSQL's and Prometheus'
are that with Debian's packages, so of another version than the name says. Ledger, sandbox and filter
are those that `make run` builds (`BINARIES=prebuilt`): no Rust image can be had without a registry, so the stage that
compiles in a container is not run by this test.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import alerts
from engine import Docker

from stack import build, envoy_binary

ROOT = build.ROOT
PROMETHEUS = ("prometheus", "promtool")
COMPOSE = ROOT / "deploy" / "compose"
# Debian's release in the image's name.
RELEASE = "bookworm"
FETCHED = ROOT / ".tools" / "compose"
ROOTFS = FETCHED / f"debian-{RELEASE}.tar"
WITH_POSTGRES = FETCHED / f"postgres-{RELEASE}.tar"
# No service is started, and no cluster is made.
INSTALL_POSTGRES = """\
set -e
printf '#!/bin/sh\\nexit 101\\n' >usr/sbin/policy-rc.d
chmod 0755 usr/sbin/policy-rc.d
mkdir -p etc/postgresql-common
echo 'create_main_cluster = false' >etc/postgresql-common/createcluster.conf
cp /etc/resolv.conf etc/resolv.conf
mount --rbind /dev dev
export DEBIAN_FRONTEND=noninteractive
chroot . apt-get update -qq
chroot . apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold postgresql
"""
LEFT_OUT = (
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./usr/share/doc/*",
    "./usr/share/locale/*",
    "./dev/*",
    # What PostgreSQL compiles queries with, if it is there; the largest part of it all.
    "./usr/lib/llvm*",
    "./usr/lib/*/libLLVM*",
    "./usr/lib/postgresql/*/lib/llvmjit*",
    "./usr/lib/postgresql/*/lib/bitcode",
)


def named(argument: str) -> str:
    """The image that the Dockerfile names in this argument."""
    return only_match(rf"^ARG {argument}=(\S+)$", COMPOSE / "Dockerfile")


def of_the_service(name: str) -> str:
    """The image that the compose file names for a service that is not built."""
    return only_match(rf"^    image: ({name}:\S+|\S+/{name}:\S+)$", COMPOSE / "docker-compose.yml")


def only_match(pattern: str, file: Path) -> str:
    """The first group."""
    (found,) = re.findall(pattern, file.read_text(), re.MULTILINE)
    return str(found)


def prepare() -> build.Artifacts:
    """What needs a network or a compiler: Debian's files, Envoy's binary, the binaries of the workspace."""
    if not ROOTFS.exists():
        print(f"compose test: making a Debian {RELEASE} with debootstrap", flush=True)
        FETCHED.mkdir(parents=True, exist_ok=True)
        made = ROOTFS.with_suffix(".new")
        subprocess.run(["debootstrap", "--variant=minbase", RELEASE, str(made)], check=True, stdout=subprocess.DEVNULL)
        pack(made, ROOTFS)
    if not WITH_POSTGRES.exists():
        print("compose test: installing PostgreSQL into it", flush=True)
        made = WITH_POSTGRES.with_suffix(".new")
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        subprocess.run(["tar", "-C", str(made), "-xf", str(ROOTFS)], check=True)
        # Mounts and processes of its own, which end with it.
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child=SIGKILL", "sh", "-c", INSTALL_POSTGRES]
        said = subprocess.run(apart, cwd=made, capture_output=True, text=True, check=False)
        if said.returncode != 0:
            raise RuntimeError(f"PostgreSQL cannot be installed: {said.stderr[-3000:]}")
        pack(made, WITH_POSTGRES)
    for name in PROMETHEUS:
        alerts.program(name)
    envoy_binary.find({})
    return build.build()


def pack(made: Path, into: Path) -> None:
    """Puts a root file system into a file, and removes it."""
    packed = into.with_suffix(".part")
    excluded = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    subprocess.run(["tar", "-C", str(made), *excluded, "-cf", str(packed), "."], check=True)
    shutil.rmtree(made)
    packed.replace(into)


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
    load_postgres(docker, home)
    load_prometheus(docker, home)


def load_postgres(docker: Docker, home: Path) -> None:
    """As the official image: user 999, a volume of that user's, and what it does at its start."""
    docker.run("docker", "import", WITH_POSTGRES, "with-postgres")
    context = home / "postgres-image"
    context.mkdir()
    shutil.copy(Path(__file__).with_name("postgres-start"), context)
    (context / "Dockerfile").write_text(
        "FROM with-postgres\n"
        "RUN groupmod -g 999 postgres && usermod -u 999 postgres && ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ "
        "&& rm -rf /var/lib/postgresql && mkdir -p /var/lib/postgresql/data && chown -R 999:999 /var/lib/postgresql\n"
        "COPY --chmod=0755 postgres-start /usr/local/bin/\n"
        'ENTRYPOINT ["postgres-start"]\n'
    )
    docker.run("docker", "build", "-t", of_the_service("postgres"), context)


def load_prometheus(docker: Docker, home: Path) -> None:
    """As the official image: a volume that belongs to nobody."""
    context = home / "prometheus-image"
    context.mkdir()
    for name in PROMETHEUS:
        shutil.copyfile(alerts.program(name), context / name)
    (context / "Dockerfile").write_text(
        f"FROM {named('DEBIAN_IMAGE')}\nCOPY --chmod=0755 prometheus promtool /bin/\n"
        "RUN mkdir /prometheus && chown 65534:65534 /prometheus\n"
        'WORKDIR /prometheus\nENTRYPOINT ["/bin/prometheus"]\n'
    )
    docker.run("docker", "build", "-t", of_the_service("prometheus"), context)
