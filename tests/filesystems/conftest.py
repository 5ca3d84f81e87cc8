"""Volumes that other tools made, once for each worker of the session."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.ntfs_volumes import Manifest, many_files, rich_volume


@pytest.fixture(scope="session")
def rich_ntfs(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return rich_volume(tmp_path_factory.mktemp("ntfs") / "rich.img")


@pytest.fixture(scope="session")
def rich_ntfs_small_clusters(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return rich_volume(tmp_path_factory.mktemp("ntfs") / "rich1k.img", ("-c", "1024"))


@pytest.fixture(scope="session")
def many_ntfs(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return many_files(tmp_path_factory.mktemp("ntfs") / "many.img", 20_000)


@pytest.fixture(scope="session")
def source_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few files to master discs from."""
    root = tmp_path_factory.mktemp("tree")
    (root / "I386").mkdir()
    (root / "I386" / "TXTSETUP.SIF").write_bytes(b"[SourceDisksFiles]\r\n" * 500)
    (root / "I386" / "A Long File Name.inf").write_bytes(b"x" * 5000)
    (root / "SETUP.EXE").write_bytes(bytes(range(256)) * 100)
    (root / "empty.txt").write_bytes(b"")
    (root / "boot.bin").write_bytes(b"\xfa" + bytes(2047))
    return root
