#!/bin/sh
# Makes the project's own environment in $1: with uv where it is, else with venv and pip.
set -eu
venv=$1
python=${PYTHON:-python3}
"$python" -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -e . hypothesis mypy pytest pytest-timeout pytest-xdist ruff
