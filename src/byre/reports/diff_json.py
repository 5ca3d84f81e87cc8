"""What differs between two images as values for JSON. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from byre.differences.compare import Differences
from byre.reports.entries import letters, time_text


def diff_json(found: Differences, image: str, other: str, *, everything: bool) -> dict[str, Any]:
    """The fields of ``byre/diff/1``: what is told, and how much is folded away by reason."""
    folded: Counter[str] = Counter()

    def told(rows: Sequence[Any]) -> list[Any]:
        if not everything:
            folded.update(row.noise for row in rows if row.noise is not None)
        return [row for row in rows if everything or row.noise is None]

    volumes = [
        {
            "partition": volume.partition,
            "type": volume.type,
            "files": [_file(change) for change in told(volume.files)],
        }
        for volume in found.volumes
    ]
    systems = [
        {
            "partition": system.partition,
            "root": system.root,
            "registry": [_key(change) for change in told(system.registry)],
            "facts": told(system.facts),
        }
        for system in found.systems
    ]
    return {
        "image": image,
        "other": other,
        "same": found.same(everything=everything),
        "complete": found.complete,
        "all": everything,
        "virtual_sizes": list(found.sizes),
        "blocks": found.blocks,
        "disk": found.disk,
        "volumes": volumes,
        "systems": systems,
        "folded": dict(sorted(folded.items())),
        "problems": list(found.problems),
    }


def _file(change: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "kind": change.kind,
        "path": change.path,
        "from": change.old_path,
        "type": "directory" if change.is_dir else "file",
        "what": change.what,
        "noise": change.noise,
    }
    for name, entry in (("before", change.before), ("after", change.after)):
        row[name] = entry and {
            "size": entry.size,
            "attributes": letters(entry),
            "created": time_text(entry.created),
            "modified": time_text(entry.modified),
            "accessed": time_text(entry.accessed),
            "short_name": entry.short_name,
            "reparse": entry.reparse,
            "streams": entry.streams,
        }
    return row


def _key(change: Any) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "key": change.full_path,
        "values": change.values,
        "security": change.security,
        "below": change.below,
        "written_before": change.written_before,
        "written_after": change.written_after,
        "noise": change.noise,
    }
