"""Images that take a while to make, once a session."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.vm_state import save_vm


@pytest.fixture(scope="session")
def vm_state_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A qcow2 image with VM state in its only snapshot. Copy it before changing it."""
    return save_vm(tmp_path_factory.mktemp("vm-state"))
