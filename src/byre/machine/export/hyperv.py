"""Hyper-V: a VHDX or VHD and a PowerShell script that makes a generation 1 machine of it.

Generation 1 has IDE (a PIIX4) and the legacy network adapter, a DEC 21140. Source: Microsoft Learn on the cmdlets.
Not run; the script's syntax was parsed.
"""

from __future__ import annotations

from byre.machine.export.plan import DiskFile, ExportPlan, Refusal, Subject, TextFile, WrittenDisk
from byre.machine.export.quoting import one_line, plain_name, powershell
from byre.machine.export.readme import PATH, readme
from byre.machine.export.words import Translation, described, mebibytes
from byre.units import MIB

TITLE = "Hyper-V"


def plan(subject: Subject) -> ExportPlan:
    machine = subject.machine
    name = plain_name(machine.name)
    words = Translation(TITLE)
    words.boots_with("controller", machine.controller, {"piix3-ide": "ide", "piix4-ide": "ide"}, "ide")
    if machine.firmware.value == "uefi":
        words.refusals.append(Refusal("a generation 1 machine has no UEFI", forceable=False))
    if machine.controller.value == "piix3-ide":
        words.notes.append("the IDE controller is a PIIX4 there, whatever the guest had")
    if machine.network.value != "none":
        words.notes.append(
            "the network card is Hyper-V's legacy adapter (DEC 21140), which is new hardware to the guest, "
            "connected to no switch"
        )
    if machine.sound.value != "none":
        words.notes.append("Hyper-V has no sound card")
    words.notes.append(
        "the clock is the host's local time; the disk file must not be compressed or made sparse there"
    )
    lines = (
        f"powershell -ExecutionPolicy Bypass -File .\\import-{name}.ps1",
        f"Start-VM -Name {powershell(name)}",
    )
    return ExportPlan(
        target="hyperv",
        title=TITLE,
        name=f"{name}-hyperv",
        shape="folder",
        disk=_disk(subject),
        texts=(f"import-{name}.ps1", PATH),
        controller="piix4-ide",
        settings=described(machine),
        lines=lines,
        notes=tuple(words.notes),
        refusals=tuple(words.refusals),
    )


def texts(subject: Subject, disk: WrittenDisk | None) -> tuple[TextFile, ...]:
    made = plan(subject)
    name = plain_name(subject.machine.name)
    return (
        # Windows PowerShell 5 reads a file without a mark in the local code page.
        TextFile(f"import-{name}.ps1", "\ufeff" + script(subject).replace("\n", "\r\n")),
        readme(subject, TITLE, made.lines, made.notes),
    )


def _disk(subject: Subject) -> DiskFile:
    name = plain_name(subject.machine.name)
    if subject.form == "vhd":
        options = {"subformat": "dynamic", "sparse": False, "uuid": str(subject.identity.disk)}
        return DiskFile(f"{name}.vhd", "hyperv", "vhd", options)
    options = {"subformat": "dynamic", "sparse": False, "disk_guid": str(subject.identity.disk)}
    return DiskFile(f"{name}.vhdx", "hyperv", "vhdx", options)


def script(subject: Subject) -> str:
    """The script. Every text from outside is a single-quoted string, in which PowerShell expands nothing."""
    machine = subject.machine
    name = plain_name(machine.name)
    network = (
        "Add-VMNetworkAdapter -VM $machine -IsLegacy $true -Name 'Legacy Network Adapter'\n"
        if machine.network.value != "none"
        else ""
    )
    notes = powershell(one_line(f"{subject.title}. Exported by Byre from {subject.source}."))
    return f"""\
#Requires -RunAsAdministrator
#Requires -Modules Hyper-V
[CmdletBinding()]
param(
    [string] $Name = {powershell(name)},
    [string] $Disk = (Join-Path $PSScriptRoot {powershell(_disk(subject).path)})
)
$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 2

if (Get-VM -Name $Name -ErrorAction SilentlyContinue) {{
    throw "There is a machine called $Name already. Give another one with -Name."
}}
$unfit = [IO.FileAttributes]::SparseFile -bor [IO.FileAttributes]::Compressed
if ((Get-Item -LiteralPath $Disk).Attributes -band $unfit) {{
    throw "$Disk is sparse or compressed on this volume, which Hyper-V refuses. Copy it to another folder."
}}
$machine = New-VM -Name $Name -Generation 1 -MemoryStartupBytes {mebibytes(machine, 2) * MIB} -VHDPath $Disk
Set-VM -VM $machine -StaticMemory -ProcessorCount {machine.cpus.value} -Notes {notes}
Set-VMProcessor -VM $machine -CompatibilityForOlderOperatingSystemsEnabled $true
Get-VMNetworkAdapter -VM $machine | Remove-VMNetworkAdapter
{network}Write-Output "$Name is there, and connected to no network. Start it with: Start-VM -Name '$Name'"
"""
