"""QEMU's names for the devices of a ``Machine``: what stands after ``-device``, empty where there is none to name."""

from __future__ import annotations

NETWORK_DEVICES = {
    "rtl8139": "rtl8139",
    "pcnet": "pcnet",
    "e1000": "e1000",
    "e1000e": "e1000e",
    "ne2k_pci": "ne2k_pci",
    "virtio-net": "virtio-net-pci",
    "none": "",
}
SOUND_DEVICES = {"ac97": "AC97", "es1370": "ES1370", "sb16": "sb16", "hda": "intel-hda", "none": ""}
