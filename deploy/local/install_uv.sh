#!/bin/sh
# Put uv under .local/uv when the machine has none, in whichever way its Python allows.
set -u
target=.local/uv
for python in /usr/bin/python3.11 python3.11 /usr/bin/python3 python3; do
    command -v "$python" >/dev/null 2>&1 || continue
    rm -rf "$target"
    if "$python" -m venv "$target" >/dev/null 2>&1 && "$target/bin/pip" install -q uv; then
        exit 0
    fi
    # Debian's python3 without the package python3-venv comes here.
    rm -rf "$target"
    if "$python" -m pip install -q --target "$target" uv; then
        exit 0
    fi
done
rm -rf "$target"
echo "uv is missing and could not be installed: install Python 3.11 with pip (on Debian: apt install python3-venv) or uv itself." >&2
exit 1
