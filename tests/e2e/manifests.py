"""The manifests in `deploy/`, read as a cluster would read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union

import yaml

from stack.build import ROOT

DEPLOY = ROOT / "deploy"
Manifest = dict[str, Any]


def files(folder: str) -> list[Path]:
    """The YAML files of a folder of `deploy/`."""
    found = sorted((DEPLOY / folder).glob("*.yaml"))
    assert found, folder
    return found


def manifests(folder: str) -> Iterator[tuple[str, Manifest]]:
    """Each object, with the name of its file."""
    for file in files(folder):
        for manifest in yaml.safe_load_all(file.read_text()):
            yield file.name, manifest


def only(folder: str, kind: str, name: str) -> Manifest:
    """The object of this kind and name."""
    found = [one for _, one in manifests(folder) if one["kind"] == kind and one["metadata"]["name"] == name]
    assert len(found) == 1, (kind, name)
    return found[0]


def named(filters: list[Manifest], name: str) -> Manifest:
    """The HTTP filter of this name."""
    found = [one for one in filters if one["name"] == name]
    assert len(found) == 1, name
    return found[0]


def merged(base: Any, patch: Any) -> Any:
    """As a control plane merges: objects by their fields, lists at the end of lists, the rest replaced."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return {name: merged(base.get(name), patch.get(name)) for name in {**base, **patch}}
    if isinstance(base, list) and isinstance(patch, list):
        return base + patch
    return base if patch is None else patch


def patched(document: Any, operations: list[Manifest]) -> Any:
    """What a JSON Patch of `add` operations makes of the document."""
    for operation in operations:
        assert operation["op"] == "add", operation
        parts = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        target: Any = document
        for part in parts[:-1]:
            target = target[_step(target, part)]
        last = parts[-1]
        if isinstance(target, list):
            target.insert(len(target) if last == "-" else int(last), operation["value"])
        else:
            target[last] = operation["value"]
    return document


def _step(target: Any, part: str) -> Union[int, str]:
    return int(part) if isinstance(target, list) else part
