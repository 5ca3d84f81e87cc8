#!/bin/sh
# Makes the project's own environment in $1, with what $2 needs: "run" (the program) or "dev" (also tests and lint).
#
# Needs only Python 3.11 or newer. Takes uv where it is, else venv and pip. PYTHON names the interpreter to try first.
set -eu
cd "$(dirname "$0")/.."
venv=$1
what=${2:-dev}
NEWEST="python3.14 python3.13 python3.12 python3.11"

say() { printf 'make: %s\n' "$*" >&2; }
die() {
    say "$1"
    shift
    for line in "$@"; do printf '      %s\n' "$line" >&2; done
    exit 1
}

version_of() { "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null; }
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
# Beyond 3.14 not every dependency has a wheel yet, and without one pip wants a compiler: taken when nothing else is.
has_wheels() { "$1" -c 'import sys; sys.exit(sys.version_info >= (3, 15))' 2>/dev/null; }
has_pip_bootstrap() { "$1" -c 'import venv, ensurepip' 2>/dev/null; }

# Sets $python to the first interpreter that is new enough and can make an environment with pip; $older, $newer and
# $bare to what was passed over on the way.
find_python() {
    python='' older='' newer='' bare=''
    for name in ${PYTHON:-python3} $NEWEST python3 python; do
        found=$(version_of "$name") || continue # absent, or a pyenv shim with nothing behind it
        if ! new_enough "$name"; then
            [ -n "$older" ] || older="$name is Python $found"
        elif ! has_pip_bootstrap "$name"; then
            [ -n "$bare" ] || bare=$name
        elif ! has_wheels "$name"; then
            [ -n "$newer" ] || newer=$name
        else
            python=$name
            [ -z "$older" ] || say "$older, and Byre needs 3.11: taking $name ($found)."
            return 0
        fi
    done
    [ -n "$newer" ] && python=$newer && say "$newer is newer than what Byre was tested with (3.11 to 3.14)."
}

explain_no_python() {
    if [ -n "$bare" ]; then
        minor=$("$bare" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        if command -v apt-get >/dev/null; then
            die "$bare ($minor) can't make an environment: its venv has no pip (ensurepip is packaged apart)." \
                "Install it, then run make again:" \
                "    sudo apt-get install python$minor-venv"
        fi
        die "$bare ($minor) can't make an environment: its ensurepip module is missing." \
            "Install your system's package of it (often python3-pip or python$minor-venv), or uv, then run make again."
    fi
    if [ -n "$older" ]; then
        set -- "$older: too old, and Byre needs Python 3.11 or newer."
    else
        set -- "no Python was found, and Byre needs 3.11 or newer."
    fi
    die "$1" \
        "None of $NEWEST is on the PATH either. Install one, then run make again:" \
        "    Debian, Ubuntu   sudo apt-get install python3.12 python3.12-venv   (or the newest that is packaged)" \
        "    Fedora           sudo dnf install python3.12" \
        "or name one:         make demo PYTHON=/path/to/python3.12"
}

dev_requirements() {
    "$venv/bin/python" - <<'PY'
import tomllib
with open("pyproject.toml", "rb") as file:
    print("\n".join(tomllib.load(file)["dependency-groups"]["dev"]))
PY
}

# An environment is kept where its interpreter still runs (a distribution's upgrade takes it away) and is new enough.
usable() { [ -x "$venv/bin/python" ] && new_enough "$venv/bin/python"; }

with_uv() {
    if ! usable; then
        # The user's interpreter where it will do; else uv finds, or fetches, one.
        if find_python; then wanted=$python; else wanted=">=3.11,<3.15"; fi
        rm -rf "$venv"
        uv venv --quiet --python "$wanted" "$venv" || return 1
    fi
    uv pip install --quiet --python "$venv/bin/python" -e . || return 1
    if [ "$what" = dev ]; then
        dev_requirements >"$venv/dev-requirements.txt"
        uv pip install --quiet --python "$venv/bin/python" -r "$venv/dev-requirements.txt" || return 1
    fi
}

# A package index, or the way to it, may fail for a moment.
export PIP_RETRIES="${PIP_RETRIES:-10}" PIP_TIMEOUT="${PIP_TIMEOUT:-60}" UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-120}"

with_pip() {
    if ! usable || ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        find_python || explain_no_python
        "$python" -m venv --clear "$venv" || die "$python could not make the environment $venv; see above."
    fi
    # No compiler is needed: every dependency has a wheel, and an old pip is told to prefer those.
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --prefer-binary -e . ||
        die "pip could not install Byre's dependencies; see above. It needs the package index, or a mirror" \
            "(PIP_INDEX_URL), the first time."
    if [ "$what" = dev ]; then
        dev_requirements >"$venv/dev-requirements.txt"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --prefer-binary \
            -r "$venv/dev-requirements.txt" || die "pip could not install the tools for tests and lint; see above."
    fi
}

[ "$what" = dev ] && for_what="tests and lint" || for_what="the program"
if command -v uv >/dev/null 2>&1 && [ -z "${BYRE_NO_UV:-}" ]; then
    say "making the environment $venv for $for_what, with uv."
    with_uv && exit 0
    say "uv did not manage it; trying again with venv and pip."
else
    say "making the environment $venv for $for_what, with venv and pip."
fi
with_pip
