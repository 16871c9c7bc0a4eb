"""The files below `assets/`, which both formats keep in the same place."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath

from bridge.bundle.files import open_plain_file, plain_file_size
from bridge.errors import UnsafeError, Where
from bridge.layout import ASSETS
from bridge.model import Asset


def check_asset_name(name: str, where: Where) -> str:
    """Returns an asset's file name if it stays inside `assets/`.

    Raises:
      UnsafeError: it does not.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise UnsafeError(f"asset name {name!r} leaves assets/", where=where)
    return str(path)


def find_assets(directory: Path) -> dict[str, Asset]:
    """Returns every file below the model's `assets/`, by its name there, sorted.

    Raises:
      UnsafeError: one is a link, or no plain file.
    """
    root = directory / ASSETS
    assets: dict[str, Asset] = {}
    for folder, _, files in os.walk(root):
        for file in files:
            path = Path(folder, file)
            name = path.relative_to(root).as_posix()
            assets[name] = Asset(name, path, plain_file_size(path))
    return dict(sorted(assets.items()))


def asset_digest(asset: Asset) -> bytes:
    """Returns the SHA-256 of an asset's content."""
    digest = hashlib.sha256()
    with open_plain_file(asset.source) as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.digest()
