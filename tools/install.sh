#!/usr/bin/env bash
# Installs PeerTap for this machine: a virtual environment in $PREFIX (/opt/peertap), the command in $BIN (/usr/local/bin), the unit in
# $UNITS (/etc/systemd/system). Called by `make install` after the set-up; can be repeated; `--remove` takes it all away again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PREFIX=${PREFIX:-/opt/peertap} BIN=${BIN:-/usr/local/bin} UNITS=${UNITS:-/etc/systemd/system}

if [ "${1:-}" = --remove ]; then
    rm -rf "$PREFIX"
    rm -f "$BIN/peertap" "$UNITS/peertap.service"
    echo "removed $PREFIX, $BIN/peertap, $UNITS/peertap.service (configuration and state stay)"
    exit 0
fi
if ! { mkdir -p "$PREFIX" "$BIN" && [ -w "$PREFIX" ] && [ -w "$BIN" ]; } 2>/dev/null; then
    echo "install: $PREFIX or $BIN is not writable; run: sudo make install" >&2
    exit 1
fi
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
echo "install: building the wheel"
maturin build --release --quiet --locked --out "$wheels"
echo "install: virtual environment in $PREFIX"
python -m venv --clear "$PREFIX"
"$PREFIX/bin/pip" install --quiet --disable-pip-version-check --constraint requirements.lock "$wheels"/*.whl
ln -sf "$PREFIX/bin/peertap" "$BIN/peertap"
if [ -d "$UNITS" ]; then
    sed "s,^ExecStart=[^ ]*,ExecStart=$BIN/peertap," packaging/peertap.service > "$UNITS/peertap.service"
    systemctl daemon-reload 2>/dev/null || true
fi
"$BIN/peertap" --version
echo "install: done; next: peertap init"
