#Requires -RunAsAdministrator
#Requires -Modules Hyper-V
[CmdletBinding()]
param(
    [string] $Name = 'xp',
    [string] $Disk = (Join-Path $PSScriptRoot 'xp.vhdx')
)
$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 2

if (Get-VM -Name $Name -ErrorAction SilentlyContinue) {
    throw "There is a machine called $Name already. Give another one with -Name."
}
$unfit = [IO.FileAttributes]::SparseFile -bor [IO.FileAttributes]::Compressed
if ((Get-Item -LiteralPath $Disk).Attributes -band $unfit) {
    throw "$Disk is sparse or compressed on this volume, which Hyper-V refuses. Copy it to another folder."
}
$machine = New-VM -Name $Name -Generation 1 -MemoryStartupBytes 268435456 -VHDPath $Disk
Set-VM -VM $machine -StaticMemory -ProcessorCount 1 -Notes 'Microsoft Windows XP Service Pack 3 in /WINDOWS on partition 1. Exported by Byre from xp.qcow2.'
Set-VMProcessor -VM $machine -CompatibilityForOlderOperatingSystemsEnabled $true
Get-VMNetworkAdapter -VM $machine | Remove-VMNetworkAdapter
Add-VMNetworkAdapter -VM $machine -IsLegacy $true -Name 'Legacy Network Adapter'
Write-Output "$Name is there, and connected to no network. Start it with: Start-VM -Name '$Name'"
