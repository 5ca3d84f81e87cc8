#!/bin/sh
# Sees that the programs that the oracle tests compare with are there: installs them with apt where it may, else says
# what is missing and how to get it. Never fails: a test whose tool is missing says so itself, and fails under CI.
set -u
cd "$(dirname "$0")" || exit 0
PATH="$PATH:/usr/sbin:/sbin"

there() {
    case $1 in
    python3:*) /usr/bin/python3 -c "import ${1#python3:}" 2>/dev/null ;;
    /*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

# Sets $commands and $packages to what is missing.
look() {
    commands='' packages=''
    while read -r command package; do
        case $command in '#'* | '') continue ;; esac
        there "$command" && continue
        commands="$commands $command"
        case " $packages " in *" $package "*) ;; *) packages="$packages $package" ;; esac
    done <oracle-tools.txt
}

look
[ -z "$commands" ] && exit 0

as_root=none
if command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ]; then
        as_root=''
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        as_root='sudo -n'
    fi
fi

apt() {
    # shellcheck disable=SC2086 # $as_root is no word or two words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 \
        -o Acquire::Retries=5 "$@" </dev/null >/dev/null
}

install() { apt install -y --no-install-recommends "$@"; }

if [ "$as_root" != none ]; then
    echo "make: installing what the oracle tests compare with:$packages" >&2
    # shellcheck disable=SC2086 # a list of words
    if ! install $packages 2>/dev/null; then
        apt update || echo "make: apt-get update failed; going on with what is known." >&2
        # One package that this release doesn't have must not keep the others away.
        install $packages || for package in $packages; do install "$package" || true; done
    fi
    look
    [ -z "$commands" ] && exit 0
fi

{
    echo "make: missing for the oracle tests, which skip without them (under CI=true they fail):$commands"
    if command -v apt-get >/dev/null 2>&1; then
        echo "      get them with: sudo apt-get install$packages"
    elif command -v dnf >/dev/null 2>&1; then
        paths=''
        for command in $commands; do
            case $command in
            python3:*) paths="$paths python3-${command#python3:}" ;;
            /*) paths="$paths $command" ;;
            *) paths="$paths '*bin/$command'" ;;
            esac
        done
        echo "      get them with: sudo dnf install --skip-unavailable$paths"
    else
        echo "      Debian's packages of them are called:$packages"
    fi
} >&2
exit 0
