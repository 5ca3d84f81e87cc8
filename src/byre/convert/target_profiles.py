"""The targets themselves, as data: what is made for each, and its rules."""

from __future__ import annotations

from byre.convert.target_rules import (
    AZURE_LARGEST,
    AZURE_SMALLEST,
    MBR_LARGEST,
    VHD_LARGEST,
    VHDX_LARGEST,
    Check,
    Rule,
    Target,
    format_is,
    name_of_ascii,
    not_encrypted,
    not_sparse,
    one_file,
    sectors_of_512,
    self_contained,
    stream_ends_at_marker,
    stream_header_version,
    subformat_is,
    suffix_is,
    vdi_has_uuid,
    vhd_footer_matches,
    virtual_size_at_least,
    virtual_size_at_most,
    virtual_size_multiple,
)
from byre.units import MIB


def _whole(prefix: str, check: Check = one_file) -> tuple[Rule, ...]:
    """What holds wherever one file is all that arrives; ``self_contained`` lets the extents of a VMDK come along."""
    return (
        Rule(
            f"{prefix}.whole",
            "nothing of the disk lies in another file",
            "a parent or data file that stays behind is missing at the target, and its part of the disk with it",
            "follows from moving one file",
            "unchecked",
            check,
        ),
        Rule(
            f"{prefix}.plain",
            "the image isn't encrypted",
            "the target has no key for it",
            "follows from moving one file",
            "unchecked",
            not_encrypted,
        ),
    )


def _sectors(prefix: str) -> Rule:
    return Rule(
        f"{prefix}.sectors",
        "logical sectors of 512 bytes",
        "the target shows the guest 512-byte sectors: a partition table made for 4096 points elsewhere then",
        "[MS-VHDX] 2.6.2.4; the other formats have no such field",
        "unchecked",
        sectors_of_512,
    )


def _not_sparse(prefix: str) -> Rule:
    return Rule(
        f"{prefix}.not-sparse",
        "the file has no holes on its host",
        "Windows refuses it with 0xC03A001A: 'must be uncompressed and unencrypted and must not be sparse'",
        "github.com/hashicorp/packer/issues/9922; github.com/microsoft/WSL/issues/4103",
        "read",
        not_sparse,
    )


def _format(prefix: str, names: tuple[str, ...], reason: str, source: str, checked: str) -> Rule:
    return Rule(f"{prefix}.format", f"format {' or '.join(names)}", reason, source, checked, format_is(*names))


_QEMU = Target(
    "qemu",
    "QEMU, libvirt",
    "qcow2",
    ".qcow2",
    rules=(
        _format(
            "qemu",
            ("qcow2", "raw"),
            "the two that QEMU runs from at full speed and calls stable; others it reads, for converting",
            "QEMU's manual, 'Disk image file formats'",
            "unchecked",
        ),
        *_whole("qemu"),
    ),
)

_PROXMOX = Target(
    "proxmox",
    "Proxmox VE",
    "qcow2",
    ".qcow2",
    rules=(
        _format(
            "proxmox",
            ("qcow2", "raw", "vmdk"),
            "what 'qm create --ide0 STORE:0,import-from=FILE' and 'qm disk import' take",
            "qm's source and a run of its OVF import",
            "read",
        ),
        Rule(
            "proxmox.suffix",
            "the name ends in .qcow2, .raw, .img or .vmdk",
            "the import goes by the name's ending, not by the content",
            "general knowledge of PVE's storage layer",
            "unchecked",
            suffix_is(".qcow2", ".raw", ".img", ".vmdk"),
        ),
        Rule(
            "proxmox.name",
            "only letters, digits, space and - . + = _ in the file's name",
            "other names are refused when the disk comes with an OVF",
            "Proxmox VE's OVF import, source",
            "read",
            name_of_ascii,
        ),
        *_whole("proxmox"),
    ),
)

_VIRTUALBOX = Target(
    "virtualbox",
    "VirtualBox",
    "vdi",
    ".vdi",
    options={"subformat": "dynamic"},
    size_multiple=MIB,
    rules=(
        _format(
            "virtualbox",
            ("vdi", "vmdk", "vhd"),
            "the formats that VirtualBox writes to; others it reads at most",
            "VirtualBox manual, 'Disk Image Files'",
            "unchecked",
        ),
        Rule(
            "virtualbox.uuid",
            "a VDI has a UUID that isn't zero",
            "VirtualBox knows media by UUID; the machine's .vbox has to name the same one",
            "a .vbox registered in VirtualBox 7.2 with a wrong UUID: 'inaccessible'",
            "ran",
            vdi_has_uuid,
        ),
        _sectors("virtualbox"),
        *_whole("virtualbox", self_contained),
    ),
    notes=("Two media with one UUID are refused: a copy gets a new one unless --keep-uuid is given.",),
)

_VMWARE = Target(
    "vmware",
    "VMware Workstation, Player, Fusion",
    "vmdk",
    ".vmdk",
    options={"subformat": "monolithicSparse"},
    rules=(
        _format("vmware", ("vmdk",), "the only format it runs from", "VMware's Virtual Disk Format 5.0", "unchecked"),
        Rule(
            "vmware.subformat",
            "monolithicSparse, monolithicFlat, twoGbMaxExtentSparse or twoGbMaxExtentFlat",
            "the hosted kinds; streamOptimized is for transport and has to be imported",
            "VMware's Virtual Disk Format 5.0",
            "unchecked",
            subformat_is("vmdk", "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"),
        ),
        _sectors("vmware"),
        Rule(
            "vmware.parent",
            "no parent disk",
            "a delta without its chain can't be opened",
            "follows from moving one disk",
            "unchecked",
            self_contained,
        ),
    ),
)

_ESXI = Target(
    "esxi",
    "VMware ESXi, vSphere",
    "vmdk",
    ".vmdk",
    options={"subformat": "streamOptimized"},
    rules=(
        _format("esxi", ("vmdk",), "what an OVF deploys from", "DMTF OVF 1.1 with VMware's format URI", "read"),
        Rule(
            "esxi.subformat",
            "streamOptimized",
            "what an OVF or OVA for ESXi carries; monolithicSparse doesn't run reliably on VMFS",
            "OVF format URI vmdk.html#streamOptimized; public issue threads",
            "unchecked",
            subformat_is("vmdk", "streamOptimized"),
        ),
        Rule(
            "esxi.header-version",
            "header version 3",
            "uploads of older headers are refused or digested wrongly",
            "public issue threads about qemu-img's streamOptimized files",
            "unchecked",
            stream_header_version,
        ),
        Rule(
            "esxi.end-marker",
            "nothing after the end-of-stream marker",
            "qemu-img 7.2 leaves 53 to 64 KiB there, blamed for failed uploads and digests",
            "qemu-img 7.2's output looked at",
            "ran",
            stream_ends_at_marker,
        ),
        _sectors("esxi"),
        *_whole("esxi"),
    ),
    notes=("Deploy it with an OVF or OVA; the system type must not be virtualbox-2.2.",),
)

_HYPERV = Target(
    "hyperv",
    "Hyper-V",
    "vhdx",
    ".vhdx",
    options={"subformat": "dynamic", "sparse": False},
    size_multiple=MIB,
    sparse=False,
    rules=(
        _format(
            "hyperv",
            ("vhdx", "vhd"),
            "the formats that New-VM -VHDPath takes",
            "Microsoft Learn, New-VM",
            "unchecked",
        ),
        Rule(
            "hyperv.suffix",
            "the name ends in .vhdx or .vhd as its format is",
            "Hyper-V goes by the name's ending",
            "github.com/hashicorp/vagrant/pull/4208",
            "unchecked",
            suffix_is(".vhdx", ".vhd"),
        ),
        _not_sparse("hyperv"),
        Rule(
            "hyperv.vhd-size",
            "a VHD of at most 2040 GiB",
            "the format's own limit in Windows",
            "Virtual Hard Disk Image Format Specification",
            "unchecked",
            virtual_size_at_most(VHD_LARGEST, "vhd"),
        ),
        Rule(
            "hyperv.vhdx-size",
            "a VHDX of at most 64 TiB",
            "the format's own limit",
            "[MS-VHDX] 2.6.2.2",
            "unchecked",
            virtual_size_at_most(VHDX_LARGEST, "vhdx"),
        ),
        *_whole("hyperv"),
    ),
    notes=("Windows XP needs a generation 1 machine, IDE and the legacy network adapter.",),
)

_AZURE = Target(
    "azure",
    "Microsoft Azure",
    "vhd",
    ".vhd",
    options={"subformat": "fixed"},
    size_multiple=MIB,
    rules=(
        _format(
            "azure",
            ("vhd",),
            "VHDX is not taken",
            "Microsoft Learn, 'About VHDs in Azure' (dn790344): 'Azure supports VHD format, fixed disks'",
            "read",
        ),
        Rule(
            "azure.fixed",
            "a fixed VHD",
            "dynamic and differencing ones are refused: offset X of the disk must be offset X of the blob",
            "Microsoft Learn, 'About VHDs in Azure' (dn790344)",
            "read",
            subformat_is("vhd", "fixed"),
        ),
        Rule(
            "azure.whole-mib",
            "the virtual size is whole mebibytes",
            "an image can't be made from any other: 'N * MiB + 512 bytes'",
            "Microsoft Learn, Add-AzVhd",
            "read",
            virtual_size_multiple(MIB),
        ),
        Rule(
            "azure.footer",
            "the file is the disk and one 512-byte footer that says the same size",
            "the upload's length is checked against the footer",
            "Microsoft Learn, Add-AzVhd; DiskCreationData.UploadSizeBytes",
            "read",
            vhd_footer_matches,
        ),
        Rule(
            "azure.smallest",
            "at least 20 MiB",
            "the least that an upload may be is 20972032 bytes, the footer included",
            "Microsoft Learn, DiskCreationData.UploadSizeBytes",
            "read",
            virtual_size_at_least(AZURE_SMALLEST),
        ),
        Rule(
            "azure.largest",
            "at most 32 TiB",
            "the most that an upload may be is 35183298347520 bytes, the footer included",
            "Microsoft Learn, DiskCreationData.UploadSizeBytes",
            "read",
            virtual_size_at_most(AZURE_LARGEST),
        ),
        Rule(
            "azure.suffix",
            "the name ends in .vhd",
            "the upload tools go by it",
            "Microsoft Learn, Add-AzVhd",
            "read",
            suffix_is(".vhd"),
        ),
        _sectors("azure"),
        *_whole("azure"),
    ),
    notes=("Holes in the local file are fine: page blobs are sparse, the tools upload what isn't zeros.",),
)

_AWS = Target(
    "aws",
    "Amazon EC2 (VM Import/Export)",
    "vmdk",
    ".vmdk",
    options={"subformat": "streamOptimized"},
    rules=(
        _format(
            "aws",
            ("vmdk", "vhd", "vhdx", "raw"),
            "the image formats of VM Import, besides OVA",
            "docs.aws.amazon.com/vm-import, 'Image formats'",
            "read",
        ),
        Rule(
            "aws.vmdk",
            "a VMDK is streamOptimized",
            "'Stream-optimized ESX Virtual Machine Disk'; SEsparse deltas are named as unsupported",
            "docs.aws.amazon.com/vm-import, 'Image formats' and 'Limitations'",
            "read",
            subformat_is("vmdk", "streamOptimized"),
        ),
        Rule(
            "aws.vhd",
            "a VHD is fixed or dynamic",
            "'Fixed and Dynamic Virtual Hard Disk (VHD/VHDX)'",
            "docs.aws.amazon.com/vm-import, 'Image formats'",
            "read",
            subformat_is("vhd", "fixed", "dynamic"),
        ),
        Rule(
            "aws.vhdx",
            "a VHDX is fixed or dynamic",
            "'Fixed and Dynamic Virtual Hard Disk (VHD/VHDX)'",
            "docs.aws.amazon.com/vm-import, 'Image formats'",
            "read",
            subformat_is("vhdx", "fixed", "dynamic"),
        ),
        _sectors("aws"),
        *_whole("aws"),
    ),
    notes=("VM Import's list of guests begins with Windows Server 2003: Windows XP is not on it.",),
)

_UTM = Target(
    "utm",
    "UTM on macOS",
    "qcow2",
    ".qcow2",
    rules=(
        _format(
            "utm",
            ("qcow2", "raw"),
            "the disk in X.utm/Data; UTM runs QEMU",
            "UTM's Swift configuration code, ConfigurationVersion 4",
            "read",
        ),
        *_whole("utm"),
    ),
)

_KUBEVIRT = Target(
    "kubevirt",
    "KubeVirt, OpenShift Virtualization",
    "qcow2",
    ".qcow2",
    rules=(
        _format(
            "kubevirt",
            ("qcow2", "raw"),
            "what a containerDisk and the Containerized Data Importer take",
            "OpenShift documentation, 'Uploading local disk images', table of content types",
            "read",
        ),
        Rule(
            "kubevirt.mbr",
            "at most 2 TiB",
            "a BIOS guest boots from an MBR, which ends there",
            "general knowledge",
            "unchecked",
            virtual_size_at_most(MBR_LARGEST),
        ),
        *_whole("kubevirt"),
    ),
    notes=("There is no IDE bus: a plain Windows XP stops with 0x7B unless it has an AHCI driver.",),
)

TARGETS: tuple[Target, ...] = (
    _QEMU,
    _PROXMOX,
    _VIRTUALBOX,
    _VMWARE,
    _ESXI,
    _HYPERV,
    _AZURE,
    _AWS,
    _UTM,
    _KUBEVIRT,
)
