"""A workload that knows nothing of Keybrake: it calls `http://api.stripe.com`, and all that its network has is the way
to Envoy. The vendor's name and port 80 lead there, as the rules of a mesh or of its host make them; nothing else can be
reached from it.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import images
from composed import Compose, Gate, require, tell
from engine import PATH

from stack.calls import call

NETWORK = "governed"
NAME = "api.stripe.com"


@dataclass(frozen=True)
class Workload:
    """A container without any right, in a network in which there is Envoy and nobody else."""

    compose: Compose
    container: str
    envoy: str

    def bash(self, script: str) -> subprocess.CompletedProcess[str]:
        """Runs a script in it."""
        return self.compose.docker.run("docker", "exec", self.container, "bash", "-c", script, check=False)

    def post(self, path: str, vault_key: str, form: str) -> tuple[int, str]:
        """Status and `keybrake-reason` of a call to the vendor by its own name."""
        head = f"POST {path} HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: Bearer {vault_key}\r\nConnection: close\r\n"
        head += f"Idempotency-Key: transparent-{secrets.token_hex(4)}\r\n"
        head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n"
        said = self.bash(
            f"exec 3<>/dev/tcp/{NAME}/80; printf %s $'{head.encode('unicode_escape').decode()}{form}' >&3; cat <&3"
        )
        require(said.returncode == 0, f"{path}: {said.stderr}")
        first, *headers = said.stdout.partition("\n\n")[0].splitlines()
        fields = dict(line.lower().split(": ", 1) for line in headers)
        return int(first.split()[1]), fields.get("keybrake-reason", "")

    def reaches(self, address: str, port: int) -> bool:
        """Whether a connection to there is made, in reasonable time."""
        return self.bash(f"timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/{port}'").returncode == 0


@contextlib.contextmanager
def workload(compose: Compose) -> Iterator[Workload]:
    """Its network, its container, and the rule that leads its port 80 to Envoy."""
    docker, envoy = compose.docker, compose.container("envoy")
    docker.run("docker", "network", "create", "--internal", NETWORK)
    docker.run("docker", "network", "connect", NETWORK, envoy)
    address = str(compose.about("envoy")["NetworkSettings"]["Networks"][NETWORK]["IPAddress"])
    confined = ["--cap-drop=ALL", "--security-opt=no-new-privileges", "--read-only", "--user=10003:10003"]
    begin = ["docker", "run", "--detach", f"--network={NETWORK}", f"--add-host={NAME}:{address}", *confined]
    made = docker.run(*begin, images.named("DEBIAN_IMAGE"), "sleep", "infinity").stdout.strip()
    try:
        pid = docker.run("docker", "inspect", "--format={{.State.Pid}}", made).stdout.strip()
        lead = f"iptables -t nat -A OUTPUT -p tcp -d {address} --dport 80 -j DNAT --to-destination {address}:10000"
        subprocess.run(["nsenter", f"--target={pid}", "--net", *lead.split()], check=True, env={"PATH": PATH})
        yield Workload(compose, made, address)
    finally:
        docker.run("docker", "rm", "--force", made)
        docker.run("docker", "network", "disconnect", NETWORK, envoy)
        docker.run("docker", "network", "rm", NETWORK)


def check(compose: Compose) -> None:
    """What the workload sends to the vendor's own name is governed, and no other way is open."""
    gate = Gate(compose.folder)
    wanted = {"vendor": "stripe", "allowed_endpoints": ["POST /v1/charges"], "daily_usd_cap": 10.99, "label": NETWORK}
    issued = call("POST", f"{gate.url}/admin/vault_keys", bearer=gate.admin_key, json_body=wanted).json()
    before = compose.vendor_counts()
    with workload(compose) as job:
        for path, form, answer in (
            ("/v1/charges", "amount=299&currency=usd&source=tok_visa", (200, "")),
            ("/v1/charges", "amount=900&currency=usd&source=tok_visa", (402, "spend_cap_exceeded")),
            ("/v1/refunds", "charge=ch_1", (403, "endpoint_not_allowed")),
        ):
            came = job.post(path, issued["vault_key"], form)
            require(came == answer, f"{NAME}{path} with {form}: {answer} expected, not {came}")
        check_closed(compose, job)
    after = compose.vendor_counts()
    require(after["executions_total"] == before["executions_total"] + 1, "the vendor executed once more")
    require(after["rejected_credentials"] == before["rejected_credentials"], "the vendor has seen its own secret only")
    asked = f"{gate.url}/audit?key_id={issued['key_id']}"
    entries = call("GET", asked, bearer=gate.audit_key).json()["entries"]
    told = sorted(entry["reason"] or entry["outcome"] for entry in entries)
    require(told == ["endpoint_not_allowed", "settled", "spend_cap_exceeded"], f"all of it is in the audit: {told}")
    tell(f"transparent: http://{NAME} is governed, every other way is closed")


def check_closed(compose: Compose, job: Workload) -> None:
    """The vendor's real address, the ledger, and Envoy's admin port."""
    require(job.reaches(job.envoy, 10000), "Envoy is in the workload's reach")
    for service, port in (("sandbox", 443), ("ledger", 9081), ("ledger", 9080)):
        (network,) = compose.about(service)["NetworkSettings"]["Networks"].values()
        # It is open for Envoy, which is in both networks.
        compose.within("envoy", f"exec 3<>/dev/tcp/{network['IPAddress']}/{port}")
        require(not job.reaches(network["IPAddress"], port), f"{service}:{port} is out of the workload's reach")
    for port in (443, 9901):
        require(not job.reaches(NAME, port), f"nothing listens on {NAME}:{port}")
