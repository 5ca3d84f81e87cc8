#!/bin/sh
# Fetches what the boot tests make their Linux guest of: Debian's own cloud kernel and its static busybox, taken out of
# their packages without installing either (a kernel's package would build an initramfs for this machine). 27 MB, once.
# Never fails: a test that lacks them says so itself, and fails under CI.
set -u
cd "$(dirname "$0")/.." || exit 0
target=.oracle/linux
[ -s $target/vmlinuz ] && [ -s $target/busybox ] && exit 0

missing() {
    echo "make: the boot tests have no Linux guest: $1" >&2
    exit 0
}

if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
    missing "it is made of Debian's packages, and there is no apt-get here. Put a kernel and a static busybox into $target as vmlinuz and busybox."
fi

get() { apt-get -qq -o Acquire::Retries=5 "$@" >/dev/null 2>&1; }
kernel() { apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-[^ ]*\)/\1/p' | head -1; }
package=$(kernel)
if [ -z "$package" ]; then
    if [ "$(id -u)" = 0 ]; then get update; else sudo -n apt-get -qq -o Acquire::Retries=5 update >/dev/null 2>&1; fi
    package=$(kernel)
fi
[ -n "$package" ] || missing "no package linux-image-cloud-amd64 is known here (Debian on amd64 has it)."

mkdir -p $target/fetched
trap 'rm -rf $target/fetched' EXIT
echo "make: fetching the boot tests' Linux guest: $package, busybox-static" >&2
fetch() { (cd $target/fetched && get download "$package" busybox-static); }
if ! fetch; then
    # The list may name what the mirror has replaced by now, and a mirror may be busy for a moment.
    sleep 10
    [ "$(id -u)" = 0 ] && get update && package=$(kernel)
    fetch || missing "apt-get download failed."
fi
for deb in "$target"/fetched/*.deb; do
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C $target/fetched --wildcards './boot/vmlinuz-*' 2>/dev/null
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C $target/fetched ./bin/busybox ./usr/bin/busybox 2>/dev/null
done
# Whole files under their final names, or none.
for file in "$target"/fetched/boot/vmlinuz-*; do [ -f "$file" ] && mv "$file" $target/vmlinuz; done
for file in $target/fetched/bin/busybox $target/fetched/usr/bin/busybox; do [ -f "$file" ] && mv "$file" $target/busybox; done
{ [ -s $target/vmlinuz ] && [ -s $target/busybox ]; } || missing "the packages don't hold what was looked for."
exit 0
