"""Runs deploy/compose as it is: builds its images, starts it, does the main job on it, and looks at what its containers
may do.

    python3 tests/compose/run.py          # `make test-compose`; Linux, as root

Everything is ended and removed at the end, also when a check fails or the run is killed: see `engine.py`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Optional

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import alerts  # noqa: E402
import images  # noqa: E402
import profiles  # noqa: E402
import transparent  # noqa: E402
from composed import HEALTHY_DEADLINE_S, Compose, Failed, Gate, await_health, require, tell  # noqa: E402
from engine import Docker, engine, in_namespaces, install, require_root  # noqa: E402

from stack import demo  # noqa: E402
from stack.build import Artifacts  # noqa: E402
from stack.calls import NoAnswer, call  # noqa: E402
from stack.polling import eventually  # noqa: E402

SERVICES = ("ledger", "sandbox", "envoy")
INSIDE = "--inside"


def check_files(compose: Compose) -> None:
    """The profiles can be read; the secrets are made once, for their owner's eyes."""
    subprocess.run([compose.folder / "make-secrets"], check=True, env={"PATH": os.defpath})
    for profile in ("postgres", "prometheus"):
        compose("--profile", profile, "config", "--quiet")
    mode = (compose.folder / "secrets").stat().st_mode & 0o777
    require(mode == 0o700, f"the folder with secrets is for its owner: {mode:o}")
    before = (compose.folder / "secrets" / "admin_key").read_text()
    subprocess.run([compose.folder / "make-secrets"], check=True, env={"PATH": os.defpath})
    require((compose.folder / "secrets" / "admin_key").read_text() == before, "a second make-secrets keeps the keys")
    tell("the compose file, both profiles, the secrets")


def start(compose: Compose) -> None:
    """Builds and starts everything; returns when all are healthy and the ledger is ready."""
    compose("build")
    tell("images built from the Dockerfile, with prebuilt binaries")

    compose("up", "-d", "ledger")
    await_health(compose, "ledger")
    require(not compose.is_ready(), "a ledger whose gate is not proven is not ready")
    compose("up", "-d")
    await_health(compose, *SERVICES)
    eventually(compose.is_ready, HEALTHY_DEADLINE_S, "the gate is proven")
    tell(f"healthy: {', '.join(SERVICES)}; the gate is proven")


def started(compose: Compose) -> bool:
    """Whether there is a container for each service."""
    return all(compose.container(service) for service in SERVICES)


def check_main_job(compose: Compose) -> None:
    """Key, charge, replay, 403, 402, audit; and what the vendor has seen of it."""
    demo.run(Gate(compose.folder), lambda step: tell(step.what))
    counts = compose.vendor_counts()
    require(counts["executions_total"] == 1, f"one execution at the vendor, not {counts['executions_total']}")
    require(counts["rejected_credentials"] == [], "the vendor has seen its own secret only")
    tell("the vendor executed once")


def check_confined(compose: Compose, service: str) -> None:
    """No root, nothing to write to, no capabilities, and no way to get some."""
    host = compose.about(service)["HostConfig"]
    require(host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"] and not host["Privileged"], (service, host))
    require(host["SecurityOpt"] == ["no-new-privileges:true"], (service, host["SecurityOpt"]))
    require(compose.within(service, "id -u").stdout.strip() not in ("", "0"), f"{service} does not run as root")
    status = compose.within(service, "cat /proc/1/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    require(fields["Uid"].split()[0] != "0" and fields["NoNewPrivs"] == "1", (service, fields["Uid"]))
    for name in ("CapEff", "CapPrm", "CapBnd"):
        require(int(fields[name], 16) == 0, f"{service} has capabilities: {name} {fields[name]}")
    for place in ("/x", "/usr/local/bin/x", "/etc/x"):
        wrote = compose.within(service, f"echo x >{place}", check=False)
        require(wrote.returncode != 0 and "Read-only file system" in wrote.stderr, (service, place, wrote.stderr))


def check_no_secret(compose: Compose, service: str) -> None:
    """In none of its settings, its environment, its log or its image."""
    folder = compose.folder / "secrets"
    secrets = [path.read_text().strip() for path in folder.iterdir() if path.is_file() and path.name != "vendor"]
    require(len(secrets) == 5 and all(len(secret) > 20 for secret in secrets), "five secrets")
    container = compose.container(service)
    image = compose.about(service)["Image"]
    shown = {
        "docker inspect": json.dumps(compose.about(service)),
        "environment": compose.within(service, "tr '\\0' '\\n' </proc/1/environ; env").stdout,
        "command line": compose.within(service, "tr '\\0' ' ' </proc/1/cmdline").stdout,
        "image": compose.docker.run("docker", "history", "--no-trunc", image).stdout,
    }
    log = compose.docker.run("docker", "logs", container)
    shown["log"] = log.stdout + log.stderr
    for where, text in shown.items():
        require(not any(secret in text for secret in secrets), f"a secret stands in the {where} of {service}")
    files = {
        mount["Source"].rpartition("/")[2] for mount in compose.about(service)["Mounts"] if mount["Type"] == "bind"
    }
    wanted = {
        "ledger": {"admin_key", "audit_key", "internal_key", "postgres_password"},
        "sandbox": {"sandbox_key"},
        "envoy": {"sds"},
        "postgres": {"postgres_password"},
        "prometheus": {"prometheus"},
    }
    require(files == wanted[service], f"{service} is given {files}")


def check_networks(compose: Compose) -> None:
    """Only Envoy is reached from this machine, and ledger and sandbox reach nothing but each other and Envoy."""
    for service in ("ledger", "sandbox"):
        about = compose.about(service)
        require(not any((about["NetworkSettings"]["Ports"] or {}).values()), f"{service} publishes no port")
        for network in about["NetworkSettings"]["Networks"]:
            inside = json.loads(compose.docker.run("docker", "network", "inspect", network).stdout)[0]
            require(inside["Internal"], f"{network} has no way out")
    # That one opens, so the name resolves and the other one's refusal is the port's.
    compose.within("ledger", "exec 3<>/dev/tcp/envoy/10000")
    reached = compose.within("ledger", "exec 3<>/dev/tcp/envoy/9901", check=False)
    refused = reached.returncode != 0 and "Connection refused" in reached.stderr
    require(refused, f"Envoy's admin port is on its own loopback: {reached.stderr}")
    published = compose.about("envoy")["NetworkSettings"]["Ports"]
    addresses = {binding["HostIp"] for bindings in published.values() for binding in bindings or []}
    require(addresses == {"127.0.0.1"}, f"published on loopback only, not {addresses}")
    tell("networks: no way around Envoy, no way to its admin port")


def check_a_new_secret(compose: Compose) -> None:
    """A credential that is replaced in the folder counts without a restart."""
    began = compose.about("envoy")["State"]["StartedAt"]
    file = compose.folder / "secrets" / "sds" / "stripe_credential.json"
    right = file.read_text()

    def put(text: str) -> None:
        file.with_name(".new").write_text(text)
        file.with_name(".new").rename(file)

    def instead() -> Optional[str]:
        """None, or what came of the main job instead."""
        try:
            demo.run(Gate(compose.folder), lambda _: None)
        except demo.StepFailed as error:
            return str(error)
        return None

    put(right.replace("Bearer sk_test_sandbox_", "Bearer sk_test_sandbox_x"))
    eventually(lambda: "charge: 200 expected, 401" in (instead() or ""), 30, "the vendor refuses another secret")
    put(right)
    eventually(lambda: instead() is None, 30, "the main job goes through with the right secret")
    require(compose.about("envoy")["State"]["StartedAt"] == began, "Envoy was not started again")
    tell("the vendor's secret replaced without a restart")


def check_drained(compose: Compose) -> None:
    """As the README ends it: nothing new is taken."""
    compose("exec", "-T", "envoy", "drain", "9901", "95")
    try:
        call("GET", f"{Gate.url}/readyz")
    except NoAnswer:
        tell("drained")
        return
    raise Failed("a drained Envoy takes no connection")


def check_the_vendors_name(compose: Compose) -> None:
    """`api.stripe.com` is the sandbox for as long as it runs, and no longer."""
    ask = "getent hosts api.stripe.com"
    compose.within("envoy", ask)
    compose("rm", "-sf", "sandbox")
    require(compose.within("envoy", ask, check=False).returncode != 0, "the sandbox no longer has the vendor's name")
    tell("without the sandbox the vendor's name is the vendor's own")


def check_nothing_left(docker: Docker) -> None:
    """After `down`."""
    for what in (("ps", "-aq"), ("volume", "ls", "-q")):
        left = docker.run("docker", *what).stdout.split()
        require(left == [], f"docker {' '.join(what)}: {left}")
    networks = docker.run("docker", "network", "ls", "--format", "{{.Name}}").stdout.split()
    require(sorted(networks) == ["bridge", "host", "none"], networks)
    tell("taken down: no container, volume or network is left")


def inside(home: Path, cgroup: str, artifacts: Artifacts) -> int:
    """The test itself, in namespaces of its own; its exit code."""
    with engine(home, cgroup) as docker:
        images.load(docker, home)
        compose = Compose(docker, images.tree(home, artifacts))
        try:
            check_files(compose)
            start(compose)
            check_main_job(compose)
            for service in SERVICES:
                check_confined(compose, service)
                check_no_secret(compose, service)
            tell("every container: no root, read-only, no capabilities, no secret to be seen")
            check_networks(compose)
            transparent.check(compose)
            check_a_new_secret(compose)
            profiles.start(compose)
            profiles.check_postgres(compose)
            profiles.check_prometheus(compose)
            for service in profiles.SERVICES:
                check_confined(compose, service)
                check_no_secret(compose, service)
            check_drained(compose)
            check_the_vendors_name(compose)
        except (Failed, RuntimeError, TimeoutError, demo.StepFailed) as error:
            print(f"  ✗ {error}", file=sys.stderr)
            print(compose("logs", "--no-color", "--tail=20", check=False), file=sys.stderr)
            for service in SERVICES if started(compose) else ():
                print(service, json.dumps(compose.about(service)["State"]["Health"])[-1500:], file=sys.stderr)
            return 1
        finally:
            compose("down", "--volumes", "--remove-orphans")
        check_nothing_left(docker)
    return 0


def main() -> int:
    """The exit code."""
    require_root()
    if len(sys.argv) == 7 and sys.argv[1] == INSIDE:
        home, cgroup, *paths = sys.argv[2:]
        return inside(Path(home), cgroup, Artifacts(*(Path(path) for path in paths)))
    # What is to be removed is removed then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    install()
    wrong = alerts.mistakes(alerts.program("promtool"))
    if wrong:
        print("\n".join(wrong), "0 passed, 1 failed", sep="\n", flush=True)
        return 1
    tell("Prometheus' settings and the alerts, by promtool")
    artifacts = images.prepare()
    cgroup = f"keybrake-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="keybrake-compose-", ignore_cleanup_errors=True) as home:
        paths = [str(path) for path in (artifacts.wasm, artifacts.ledger, artifacts.sandbox)]
        code = in_namespaces([sys.executable, __file__, INSIDE, home, cgroup, *paths], cgroup)
    failed = int(code != 0)
    print(f"{1 - failed} passed, {failed} failed", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
