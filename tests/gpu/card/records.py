"""Records of a run: a small JSON file for each stage, whole at any moment."""

from __future__ import annotations

import json
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]


def write(path: Path, data: dict[str, Any]) -> None:
    """Write beside the file, then rename: a run cut short leaves the old record or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(data, indent=1, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def slug(device: str) -> str:
    """The name of a device as the first part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") or "unknown"


def plain(text: str) -> str:
    """A text without the paths of this machine."""
    text = text.replace(str(ROOT), ".").replace(str(Path.home()), "~")
    return re.sub(r"(?<![\w.}/:])/(?:root|home|Users|work|tmp|opt|usr)/[^\s'\"]*/", "…/", text)


@dataclass
class Log:
    """The record of a stage: what all items share, and the items so far."""

    path: Path
    head: dict[str, Any]
    items: list[dict[str, Any]] = field(default_factory=list)

    def add(self, item: dict[str, Any]) -> None:
        """Keep one more item; the file on disk is complete again when this returns."""
        self.items.append(item)
        write(self.path, self.head | {"items": self.items})
