"""What is installed in a guest as a CycloneDX 1.6 bill of materials. Pure. The names are the guest's own claims."""

from __future__ import annotations

import uuid
from typing import Any

from byre import __version__
from byre.audit.judging import Report
from byre.audit.profile import Installed
from byre.reports.printable import printable

_TYPES = {"program": "application", "hotfix": "application", "driver": "device-driver"}
_SPACE = uuid.UUID("8f2f7f0c-1f2f-5d1e-9a57-6b3a9f0f6d11")


def as_cyclonedx(report: Report) -> dict[str, Any]:
    """The bill: programs, hotfixes and drivers. It has no time in it, so that the same guest gives the same bill."""
    installed = report.profile.installed
    components = [_component(number, each) for number, each in enumerate(installed, 1)]
    told = "\0".join(f"{each['type']} {each['name']} {each.get('version')}" for each in components)
    about = dict(report.profile.about)
    system: dict[str, Any] = {
        "type": "operating-system",
        "bom-ref": "system",
        "name": printable(about.get("product") or report.system or "unknown system"),
        "properties": [
            {"name": f"byre:{label}", "value": printable(value)} for label, value in report.profile.about if value
        ],
    }
    build = about.get("build")
    if build and build not in ("unknown", "not stated"):
        system["version"] = printable(build)
    # What the registry lists is never all that lies on the disk.
    aggregate = "unknown" if report.profile.installed_unknown else "incomplete"
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SPACE, printable(f'{report.image} {told}'))}",
        "version": 1,
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "byre", "version": __version__}]},
            "component": system,
            "properties": [{"name": "byre:image", "value": printable(report.image)}],
        },
        "components": components,
        "compositions": [{"aggregate": aggregate, "assemblies": ["system"]}],
    }


def _component(number: int, installed: Installed) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": _TYPES[installed.kind],
        "bom-ref": f"{installed.kind}-{number}",
        "name": printable(installed.name) or "unnamed",
    }
    if installed.version:
        component["version"] = printable(installed.version)
    if installed.publisher:
        component["publisher"] = printable(installed.publisher)
    if installed.sha256:
        component["hashes"] = [{"alg": "SHA-256", "content": installed.sha256}]
    told = (("kind", installed.kind), ("id", installed.identifier), ("installed", installed.installed))
    rows = (*told, ("path", installed.path))
    component["properties"] = [{"name": f"byre:{name}", "value": printable(value)} for name, value in rows if value]
    return component
