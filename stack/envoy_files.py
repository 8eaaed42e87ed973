"""Writes the configurations that a user puts into their own Envoy, from the template that the local stack runs on:
`envoy/full.yaml`, the same in parts that Envoy reads again when they change (`envoy/xds`), and the same in a ConfigMap.

    python3 -m stack.envoy_files          # `make envoy-files`
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent

from stack.envoy_binary import ROOT
from stack.envoy_config import Changes, LedgerAddress, Surroundings, render
from stack.ports import Ports
from stack.vendor import STRIPE_HOST, Vendor

# Where things stand on a machine or in a container of the user's.
CONFIG_FOLDER = Path("/etc/keybrake")
DEPLOYED = Surroundings(
    node="envoy",
    ports=Ports(),
    vendor=Vendor("stripe", STRIPE_HOST, STRIPE_HOST, 443, True),
    wasm=CONFIG_FOLDER / "keybrake_filter.wasm",
    sds=CONFIG_FOLDER / "sds",
    ledger_socket=Path("/run/keybrake/ledger.sock"),
    access_log=Path("/dev/stdout"),
    workers=4,
    listen_address="0.0.0.0",
    ledgers=(LedgerAddress("ledger", 9080, 9081),),
    stats_port=9902,
)

HEAD = """\
# Written by `make envoy-files` from envoy.yaml.in; change it there, or copy this file and change the copy.
# README.md says what stands where, and what has to be in place. Needs Envoy >= 1.36, with `--concurrency` of at most 4
# (else raise the figures in the vendor cluster's circuit breaker).
"""
RULES = "# Rules that hold for the whole file:\n"
CONFIG_MAP = """\
# Written by `make envoy-files`.
apiVersion: v1
kind: ConfigMap
metadata:
  name: keybrake-envoy
data:
  envoy.yaml: |
"""
RESOURCE_TYPES = {"listeners": "listener.v3.Listener", "clusters": "cluster.v3.Cluster"}
DYNAMIC = """\
dynamic_resources:
  lds_config:
    resource_api_version: V3
    path_config_source:
      path: {folder}/listeners.yaml
      watched_directory: {{path: {folder}}}
  cds_config:
    resource_api_version: V3
    path_config_source:
      path: {folder}/clusters.yaml
      watched_directory: {{path: {folder}}}
"""


def files(around: Surroundings = DEPLOYED, xds_folder: Path = CONFIG_FOLDER / "xds") -> Mapping[str, str]:
    """The files, by their path in the repository."""
    text = re.sub(r"(?m)^ *# </?\w+>\n", "", render(around, Changes()))
    _, found, body = text.partition(RULES)
    assert found, "the template's head has changed"
    node, found, resources = body.partition("static_resources:\n")
    assert found, "the template's order has changed"
    listeners, found, clusters = resources.partition("\n  clusters:\n")
    assert found, "the template's order has changed"
    full = HEAD + "#\n" + RULES + body
    return {
        "envoy/full.yaml": full,
        "envoy/xds/envoy.yaml": HEAD + "#\n" + RULES + node + DYNAMIC.format(folder=xds_folder),
        "envoy/xds/listeners.yaml": HEAD + _resources("listeners", listeners.partition("  listeners:\n")[2]),
        "envoy/xds/clusters.yaml": HEAD + _resources("clusters", clusters),
        "deploy/kubernetes/envoy-config.yaml": CONFIG_MAP + indent(full, "    ", lambda line: bool(line.strip())),
    }


def _resources(kind: str, text: str) -> str:
    """A discovery response with these resources, each told its type."""
    told = f'      "@type": type.googleapis.com/envoy.config.{RESOURCE_TYPES[kind]}\n'
    return "resources:\n" + re.sub(r"(?m)^(    - name: .*\n)", lambda found: found[1] + told, text)


def write(folder: Path = ROOT) -> None:
    """Writes them."""
    for name, text in files().items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    write()
