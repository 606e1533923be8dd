#!/usr/bin/env bash
# Gets a checkout ready to build, test and run, and says what it does. It can be repeated; what is there already is left alone.
#
#   1. Debian packages that are missing   (apt-get, the only step that needs root or sudo)
#   2. a Rust toolchain                   (the one on this machine where it is new enough, else Debian's *-web packages)
#   3. .venv                              (exactly the versions of requirements.lock)
#   4. peertap._core, the link emulator   (cargo, profile release, into target/)
#   5. bytecode of peertap/               (`peertap up` would compile for 0.1 s where Python may not write it)
#
# Leaves behind: packages, .venv/, target/, __pycache__/. Then ". .venv/env.sh" puts the right python and cargo on the PATH.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$ROOT"
VENV=$ROOT/.venv
LOG=$ROOT/target/setup.log
PATH=$PATH:/usr/sbin:/sbin

PACKAGES=( # what the build and the lab call; the rest is found out below
    ca-certificates gcc libc6-dev libgmp-dev # fastecdsa and python-pytun have no wheels
    util-linux iproute2 procps nftables ethtool kmod # the lab: namespaces, links, filters
    iperf3 tcpdump iputils-ping socat dnsmasq-base udhcpc dbus avahi-daemon avahi-utils # its traffic and witnesses
    keepalived bird2 lldpad etherwake openvswitch-switch
)
SERVICES=(avahi-daemon.socket avahi-daemon keepalived bird lldpad.socket lldpad openvswitch-switch) # what those would start on this machine
RUST_PACKAGES=(rustc-web cargo-web rustfmt-web rust-web-clippy)

say() { printf 'set-up: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# step TEXT COMMAND...: runs the command with its output in the log, and shows that it is at work.
step() {
    local text=$1 started=$SECONDS shown=0 status=0 pid
    shift
    printf '\n== %s: %s\n' "$text" "$*" >>"$LOG"
    local from
    from=$(wc -c <"$LOG")
    [ -t 2 ] || say "$text …"
    "$@" >>"$LOG" 2>&1 </dev/null 9>&- &
    pid=$!
    trap 'kill "$pid" 2>/dev/null; exit 130' INT TERM
    while kill -0 "$pid" 2>/dev/null; do
        if [ -t 2 ]; then
            printf '\rset-up: %s … %d s' "$text" $((SECONDS - started)) >&2
        elif ((SECONDS - started >= shown + 15)); then
            shown=$((SECONDS - started))
            say "  at work for $shown s"
        fi
        sleep 0.2
    done
    wait "$pid" || status=$?
    trap - INT TERM
    [ -t 2 ] && printf '\rset-up: %s: %d s    \n' "$text" $((SECONDS - started)) >&2
    SAID=$(tail -c +"$((from + 1))" "$LOG")
    return "$status"
}

# why WHAT: ends with one sentence about the step that has just failed.
why() {
    if grep -qiE 'resolve|resolution|network is unreachable|connection (refused|timed|reset|to .* (failed|timed))|timed out|failed to (fetch|establish|connect)|could not connect|spurious network|max retries|unable to update registry|download of .* failed' <<<"$SAID"; then
        fail "$1 needs the network, and it does not answer; run this again when it does (details: target/setup.log)"
    fi
    grep -E '^ *(E:|ERROR|error|Error|Caused by)' <<<"$SAID" | head -n 3 >&2 || true
    fail "$1 failed (details: target/setup.log)"
}

at_least() { # VERSION MINIMUM
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

# ---- where we are ------------------------------------------------------------------------------------------------

if ! mkdir -p "$ROOT/target" 2>/dev/null || [ ! -w "$ROOT/target" ] || [ ! -w "$ROOT" ] || [ ! -w "$ROOT/peertap" ]; then
    fail "$ROOT is not writable for $(id -un): make a copy of it that is yours (cp -r or git clone) and run this there"
fi
exec 9>"$ROOT/target/setup.lock"
flock -n 9 2>/dev/null || { say "waiting for another set-up of this checkout"; flock 9; }
: >"$LOG"

# ---- Python --------------------------------------------------------------------------------------------------------

python_works() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
PYTHON_FOUND=
for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3 /usr/bin/python3; do
    if python_works "$candidate"; then
        PYTHON_FOUND=$(command -v "$candidate")
        break
    fi
done
[ -n "$PYTHON_FOUND" ] || fail "Python 3.11 or newer is missing: apt-get install python3"
PYTHON_VERSION=$("$PYTHON_FOUND" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PYTHON_PACKAGE=$("$PYTHON_FOUND" -c 'import sys; print("" if not sys.base_prefix == "/usr" else "python%d.%d" % sys.version_info[:2])')

# ---- Rust ----------------------------------------------------------------------------------------------------------

RUST_MINIMUM=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' Cargo.toml)
CARGO_DIR=
CARGO_HOME_OWN=
# Whether the cargo in directory $1 works in this checkout, with formatter and linter, and is new enough.
cargo_works() {
    local version
    version=$(PATH=$1:$PATH cargo --version 2>/dev/null) || return 1
    at_least "$(cut -d' ' -f2 <<<"$version")" "$RUST_MINIMUM" || return 1
    PATH=$1:$PATH cargo fmt --version >/dev/null 2>&1 && PATH=$1:$PATH cargo clippy --version >/dev/null 2>&1
}
find_cargo() {
    local found directory
    found=$(command -v cargo) || found=
    for directory in "${found%/cargo}" "${CARGO_HOME:-${HOME:-/root}/.cargo}/bin" /usr/bin; do
        if [ -n "$directory" ] && [ -x "$directory/cargo" ] && cargo_works "$directory"; then
            CARGO_DIR=$directory
            # cargo looks for its subcommands in $CARGO_HOME/bin first: a toolchain there that is too old must not mix in
            if [ "$directory" = /usr/bin ] && [ -x "${CARGO_HOME:-${HOME:-/root}/.cargo}/bin/cargo-clippy" ]; then
                CARGO_HOME_OWN=$ROOT/target/cargo-home
            fi
            return 0
        fi
    done
    return 1
}
find_cargo || true

# ---- 1, 2: packages ------------------------------------------------------------------------------------------------

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

missing=()
if command -v dpkg-query >/dev/null; then
    for package in "${PACKAGES[@]}"; do
        installed "$package" || missing+=("$package")
    done
    "$PYTHON_FOUND" -c 'import ensurepip' 2>/dev/null || missing+=("${PYTHON_PACKAGE:-python3}-venv")
    "$PYTHON_FOUND" -c 'import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' || missing+=("${PYTHON_PACKAGE:-python3}-dev")
    [ -n "$CARGO_DIR" ] || missing+=("${RUST_PACKAGES[@]}")
else
    say "this is no Debian: what is missing of these has to come from you: ${PACKAGES[*]}, Rust $RUST_MINIMUM"
fi

if ((${#missing[@]})); then
    as_root=()
    if [ "$(id -u)" != 0 ]; then
        if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }; }; then
            as_root=(sudo -n)
        else
            fail "these Debian packages are missing and only root can install them: apt-get install ${missing[*]}"
        fi
    fi
    apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -y -o DPkg::Lock::Timeout=120 -o Acquire::Retries=2 "$@"; }
    say "Debian packages to install: ${missing[*]}"
    step "apt-get update" apt update || true
    updated=$SAID
    if [ -z "$CARGO_DIR" ]; then
        offered=$(LC_ALL=C apt-cache policy rustc-web | awk '$1 == "Candidate:" { print $2 }')
        if [ -z "$offered" ] || [ "$offered" = "(none)" ] || ! at_least "${offered%%+*}" "$RUST_MINIMUM"; then
            SAID=$updated
            grep -qE '^(W: Failed|E:|Err:)' <<<"$updated" && why "apt-get update"
            fail "Rust $RUST_MINIMUM or newer is needed; Debian offers ${offered:-none} here: add its security updates to the apt sources, or install Rust with rustfmt and clippy"
        fi
    fi
    # What goes is only what the new one stands in for: Debian's older Rust.
    removed=$(LC_ALL=C apt-get -s -q install --no-install-recommends "${missing[@]}" 2>/dev/null |
        awk '$1 == "Remv" { print $2 }' | grep -vxE '(rustc|cargo|rustfmt|rust-clippy)(-mozilla)?|libstd-rust-[a-z0-9.-]+' | xargs) || true
    [ -z "$removed" ] || fail "apt-get would remove $removed to install ${missing[*]}: please settle that first"
    # The lab starts its own daemons; the host gets no new service, now or at its next start.
    new_services=()
    for service in "${SERVICES[@]}"; do
        package=${service%.socket}
        [[ " ${missing[*]} " == *" $package "* || " ${missing[*]} " == *" ${package}2 "* ]] && new_services+=("$service")
    done
    policy=
    trap '[ -z "$policy" ] || "${as_root[@]}" rm -f "$policy"' EXIT
    if ((${#new_services[@]})) && [ ! -e /usr/sbin/policy-rc.d ]; then # invoke-rc.d(8): 101 forbids to start anything
        policy=/usr/sbin/policy-rc.d
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
    fi
    step "installing ${#missing[@]} Debian packages" apt install --no-install-recommends "${missing[@]}" || {
        SAID="$updated $SAID"
        why "apt-get install"
    }
    [ -z "$policy" ] || "${as_root[@]}" rm -f "$policy"
    policy=
    if ((${#new_services[@]})) && [ -d /run/systemd/system ]; then
        "${as_root[@]}" systemctl disable --quiet --now "${new_services[@]}" >>"$LOG" 2>&1 || true
    fi
    hash -r
fi
[ -n "$CARGO_DIR" ] || find_cargo || fail "Rust $RUST_MINIMUM or newer with rustfmt and clippy is missing: install it and run this again"

# ---- 3: .venv ------------------------------------------------------------------------------------------------------

if ! "$VENV/bin/python" -c "import pip, sys; sys.exit('%d.%d' % sys.version_info[:2] != '$PYTHON_VERSION' or sys.prefix != '$VENV')" 2>/dev/null; then
    [ ! -e "$VENV" ] || say ".venv does not fit Python $PYTHON_VERSION in this place: making it anew"
    rm -rf "$VENV"
    step "making .venv with Python $PYTHON_VERSION" "$PYTHON_FOUND" -m venv "$VENV" || why "python3 -m venv"
fi

cat >"$VENV/env.sh" <<END
# Written by tools/setup.sh. Use: . .venv/env.sh
export VIRTUAL_ENV='$VENV'
export PATH='$VENV/bin:$CARGO_DIR':"\$PATH":/usr/sbin:/sbin
unset PYTHONHOME
END
[ -z "$CARGO_HOME_OWN" ] || echo "export CARGO_HOME='$CARGO_HOME_OWN'" >>"$VENV/env.sh"
# shellcheck source=/dev/null
. "$VENV/env.sh"

stamp() { sha256sum | cut -d' ' -f1; }
is_stamped() { [ "$(cat "$VENV/$1.stamp" 2>/dev/null)" = "$2" ]; }

lock=$(stamp <requirements.lock)
if ! is_stamped lock "$lock"; then
    step "installing $(grep -c == requirements.lock) Python packages" \
        python -m pip install --quiet --no-input --disable-pip-version-check --retries 2 -r requirements.lock || why "pip install"
    echo "$lock" >"$VENV/lock.stamp"
fi

# ---- 4: Rust -------------------------------------------------------------------------------------------------------

# What cargo says is shown when it is the compiler's; a missing network is told in a sentence.
cargo_failed() {
    if grep -qE '^error(\[|: could not compile)' <<<"$SAID"; then
        printf '%s\n' "$SAID" | grep -vE '^ *(Compiling |Downloaded |Downloading |Checking |Requirement already)' | tail -n 60 >&2
        fail "$1 failed: see the compiler's words above"
    fi
    why "$1"
}
sources_of() { # DIRECTORY FILE...
    find "$@" -path '*/target' -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
}

core=$({ cargo --version; sources_of rust Cargo.toml Cargo.lock pyproject.toml; } | stamp)
if ! is_stamped core "$core" || ! compgen -G 'peertap/_core*.so' >/dev/null; then
    step "building peertap._core" maturin develop --release || cargo_failed "building peertap._core"
    echo "$core" >"$VENV/core.stamp"
fi

if [ -e netns/emulator/Cargo.toml ]; then
    emulator=$({ cargo --version; sources_of netns/emulator; } | stamp)
    if ! is_stamped emulator "$emulator" || [ ! -x netns/emulator/target/release/link-emulator ]; then
        step "building the link emulator" cargo build --release --locked --manifest-path netns/emulator/Cargo.toml \
            --target-dir netns/emulator/target || cargo_failed "building the link emulator"
        touch netns/emulator/target/release/link-emulator
        echo "$emulator" >"$VENV/emulator.stamp"
    fi
fi

# ---- 5: bytecode ---------------------------------------------------------------------------------------------------

python -m compileall -q peertap >>"$LOG" || true # what is no Python is ruff's to tell

say "ready ($(cargo --version | cut -d' ' -f1,2), Python $PYTHON_VERSION in .venv)"
