"""What a program of ours consists of, as a CycloneDX document: the crates that are linked into it, by cargo's own
account. The same sources make the same bytes, so there is no time in it and no random number.
"""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Mapping
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.contact import OrganizationalEntity
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from stack.build import ROOT
from stack.errors import StackError

# Any fixed name would do: with the program's digest it makes the document's number.
NUMBERS = uuid.uuid5(uuid.NAMESPACE_OID, "keybrake-filter")


def write(package: str, target: str, digest: str) -> bytes:
    """The document of what cargo builds of this package for this target, with this SHA-256. Raises `StackError`."""
    told = json.loads(_told(["metadata", "--format-version", "1", "--filter-platform", target], package))
    packages = {one["id"]: one for one in told["packages"]}
    (root,) = (one for one, about in packages.items() if about["name"] == package)
    linked = links(told["resolve"]["nodes"], packages, root, in_tree(package, target))
    checksums = (ROOT / "Cargo.lock").read_text()
    components = {one: component(packages[one], checksums) for one in linked}
    components[root].type = ComponentType.APPLICATION
    components[root].hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=digest))
    bom = Bom(serial_number=uuid.uuid5(NUMBERS, digest), components=[components[one] for one in linked if one != root])
    bom.metadata.component = components[root]
    for one, needs in linked.items():
        bom.register_dependency(components[one], [components[other] for other in needs])
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["metadata"]["timestamp"]
    return json.dumps(document, indent=2, sort_keys=True).encode() + b"\n"


def in_tree(package: str, target: str) -> set[tuple[str, str]]:
    """Name and version of what is linked when this package alone is built. Raises `StackError`."""
    edges = ["--edges", "normal,no-proc-macro", "--prefix", "none"]
    lines = _told(["tree", "-p", package, "--target", target, *edges], package).splitlines()
    return {(name, version.removeprefix("v")) for name, version, *_ in map(str.split, filter(None, lines))}


def links(
    nodes: list[Mapping[str, Any]], packages: Mapping[str, Any], root: str, linked: set[tuple[str, str]]
) -> dict[str, list[str]]:
    """Each package that is linked into `root`, itself included, with those that it needs. Cargo's graph is that of the
    whole workspace, tests and all, so only what is in `linked` counts."""
    by_id = {node["id"]: node for node in nodes}
    found: dict[str, list[str]] = {}
    waiting = [root]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found[one] = [
            needed["pkg"]
            for needed in by_id[one]["deps"]
            if any(kind["kind"] is None for kind in needed["dep_kinds"])
            and (packages[needed["pkg"]]["name"], packages[needed["pkg"]]["version"]) in linked
        ]
        waiting += found[one]
    return found


def _told(asked: list[str], package: str) -> str:
    said = subprocess.run(["cargo", *asked, "--locked"], cwd=ROOT, capture_output=True, text=True, check=False)
    if said.returncode != 0:
        raise StackError(f"cargo does not say what {package} consists of: `cargo {' '.join(asked)}` says why")
    return said.stdout


def component(package: Mapping[str, Any], lock: str) -> Component:
    """A package of cargo's; `lock` is the text of Cargo.lock."""
    name, version = package["name"], package["version"]
    made = Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"{name}@{version}",
        licenses=[LicenseExpression(package["license"])],
    )
    if package["source"] is None:
        made.supplier = OrganizationalEntity(name="Keybrake")
        return made
    made.purl = PackageURL("cargo", name=name, version=version)
    place = rf'name = "{re.escape(name)}"\nversion = "{re.escape(version)}"\nsource = "[^"]+"\nchecksum = "(\w+)"'
    (checksum,) = re.findall(place, lock)
    made.hashes.add(HashType(alg=HashAlgorithm.SHA_256, content=checksum))
    return made
