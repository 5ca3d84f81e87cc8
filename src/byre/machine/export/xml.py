"""Trees of XML, written: every text and attribute goes through ``xml_text``, and the writer escapes it."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

from byre.machine.export.quoting import xml_text

Element = ElementTree.Element
PREFIXES = {
    "ovf": "http://schemas.dmtf.org/ovf/envelope/1",
    "rasd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData",
    "vssd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_VirtualSystemSettingData",
    "vmw": "http://www.vmware.com/schema/ovf",
    "libosinfo": "http://libosinfo.org/xmlns/libvirt/domain/1.0",
}
"""As everybody writes them; readers that go by the prefix are wrong, and there are some."""
for _prefix, _namespace in PREFIXES.items():
    ElementTree.register_namespace(_prefix, _namespace)


def element(
    tag: str, *below: Element | str | None, attributes: Mapping[str, str] | None = None, **plain: str | int | bool
) -> Element:
    """An element; ``plain`` are attributes whose names are identifiers, booleans as ``true`` and ``false``. None
    among ``below`` is left out."""
    made = ElementTree.Element(tag, {name: xml_text(value) for name, value in (attributes or {}).items()})
    for name, value in plain.items():
        made.set(name.rstrip("_"), xml_text(str(value).lower() if isinstance(value, bool) else str(value)))
    for each in below:
        if isinstance(each, str):
            made.text = xml_text(each)
        elif each is not None:
            made.append(each)
    return made


def document(root: Element) -> str:
    """The whole file, indented, with its declaration."""
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
