#!/bin/sh
# Starts xp from the folder that this script lies in. What it is given goes to QEMU: -snapshot, -display none.
# ACCEL=tcg does without KVM, QEMU=/path/to/qemu-system-x86_64 takes another QEMU.
set -eu
cd -- "$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)"
qemu=${QEMU:-qemu-system-x86_64}
command -v "$qemu" >/dev/null || { echo "$qemu is missing: install qemu-system-x86" >&2; exit 69; }
accel=${ACCEL:-kvm:tcg}
machine=pc-i440fx-7.2
"$qemu" -machine help | grep -q "^$machine " || machine=pc
exec "$qemu" -name xp -nodefaults \
    -machine "$machine,accel=$accel,acpi=on,hpet=off,vmport=off" \
    -cpu qemu32 \
    -smp 1 \
    -m 256M \
    -rtc base=localtime,driftfix=slew \
    -drive file=xp.qcow2,if=none,id=boot,format=qcow2 \
    -device ide-hd,bus=ide.0,drive=boot,bootindex=1 \
    -vga std \
    -netdev user,id=net0,restrict=on \
    -device rtl8139,netdev=net0,mac=52:54:00:1d:2e:3f \
    -audiodev none,id=sound \
    -device AC97,audiodev=sound \
    "$@"
