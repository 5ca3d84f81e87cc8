#!/bin/sh
# Makes the machine on a Proxmox VE host:  sh import.sh VMID STORAGE
set -eu
vmid=${1:?usage: sh import.sh VMID STORAGE}
storage=${2:?usage: sh import.sh VMID STORAGE}
case $vmid in *[!0-9]*) echo "VMID is a number: $vmid" >&2; exit 64 ;; esac
case $storage in *[!A-Za-z0-9._-]*) echo "this is no storage's name: $storage" >&2; exit 64 ;; esac
folder=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
case $folder in *,*) echo "no comma may be in the folder's name: $folder" >&2; exit 64 ;; esac
qm create "$vmid" \
    --ide0 "$storage:0,import-from=$folder/xp.qcow2" \
    --name xp \
    --ostype wxp \
    --machine pc-i440fx-7.2 \
    --cpu qemu32 \
    --sockets 1 \
    --cores 1 \
    --memory 256 \
    --balloon 0 \
    --acpi 1 \
    --localtime 1 \
    --tablet 0 \
    --agent 0 \
    --boot order=ide0 \
    --vga std \
    --net0 rtl8139=52:54:00:1D:2E:3F,bridge=vmbr0,firewall=1,link_down=1 \
    --audio0 device=AC97,driver=none
echo "xp is machine $vmid. Start it with: qm start $vmid"
