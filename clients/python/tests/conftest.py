"""The tests run against a real stack of this checkout, which the package's own pytest plugin starts."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import httpcore  # noqa: F401 (httpx loads it late; pytester forgets what is loaded while it is at work)
import keybrake
import pytest
from built import build_wheel, install_beside_another_extension
from keybrake.testing import LocalStack

pytest_plugins = ["keybrake.testing.plugin", "pytester"]

ROOT = Path(__file__).resolve().parents[3]


def pytest_configure(config: pytest.Config) -> None:
    """What the shell knows about a stack or a vendor must not reach the tests."""
    for name in [name for name in os.environ if name.startswith(("STRIPE_", "KEYBRAKE_", "METAFLOW_"))]:
        del os.environ[name]
    config.option.keybrake_checkout = str(ROOT)


@pytest.fixture
def kb(keybrake_stack: LocalStack) -> Iterator[keybrake.Client]:
    """A client of the stack."""
    with keybrake_stack.client() as client:
        yield client


@pytest.fixture
def customer() -> str:
    """A customer whom nobody else has."""
    return f"cus_{secrets.token_hex(8)}"


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built package."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for `PYTHONPATH` in which it is installed, beside another extension of Metaflow."""
    folder = tmp_path_factory.mktemp("installed")
    install_beside_another_extension(wheel, folder)
    return folder
