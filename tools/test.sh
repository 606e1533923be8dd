#!/usr/bin/env bash
# Runs the checks, the cheap ones first, and closes with "N passed, N failed" over tests and scenarios.
#
#   tools/test.sh            everything, the long tests in their short form
#   tools/test.sh --lint     formatters, linters and type checkers only
#   PEERTAP_FULL=1           the long forms
#
# Called by make after the set-up, with .venv/env.sh sourced. All linters run even if one fails; after a stage with a
# failure the next, dearer stage does not start. Every step has a time limit.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

FULL=0
[ "${PEERTAP_FULL:-0}" = 0 ] || FULL=1
OUTPUT=$(mktemp)
trap 'rm -f "$OUTPUT"' EXIT
# With a terminal Ctrl-C must reach the programs; without one the limit must reach their children too.
FOREGROUND=()
[ -t 0 ] && FOREGROUND=(--foreground)

done_well=() done_badly=() passed=0 failed=0 skipped=0 why=

# reasons: the lines of $OUTPUT that say what went wrong, a few; the end of a run repeats them, since a log is long.
reasons() {
    grep -aE -A3 '^  ✘|^[a-z-]+( without [a-z, ]+)?: DOES NOT HOLD|^FAILED |^E  |^failed: |panicked at|^error' "$OUTPUT" |
        cut -c1-300 | tail -n 16 | sed 's/^/    /'
}

# check NAME LIMIT_S COMMAND...: runs one step and notes how it ended; its output stays in $OUTPUT.
check() {
    local name=$1 limit=$2 started=$SECONDS status
    shift 2
    printf '\n== %s\n' "$name"
    timeout "${FOREGROUND[@]}" --signal=INT --kill-after=30 "$limit" "$@" 2>&1 | tee "$OUTPUT"
    status=${PIPESTATUS[0]}
    if [ "$status" = 0 ]; then
        done_well+=("$name")
        printf '== %s: ok, %d s\n' "$name" $((SECONDS - started))
    else
        done_badly+=("$name")
        why+="$name:"$'\n'"$(reasons)"$'\n'
        [ "$status" = 124 ] && printf '== %s: stopped at its limit of %d s\n' "$name" "$limit"
        printf '== %s: FAILED (exit status %d)\n' "$name" "$status"
    fi
    return "$status"
}

# count PATTERN: the sum of the numbers that stand before PATTERN in lines that close a run.
count() {
    grep -E '^(=* ?[0-9]+ [a-z]+.* in [0-9.:]+s|test result: |[0-9]+ passed, [0-9]+ failed)' "$OUTPUT" | grep -oE "[0-9]+ $1" | awk '{ n += $1 } END { print n + 0 }'
}
# tests NAME LIMIT_S COMMAND...: a check that runs tests, which are counted.
tests() {
    local status=0 bad
    check "$@" || status=$?
    bad=$(($(count failed) + $(count 'errors?')))
    [ "$status" != 0 ] && [ "$bad" = 0 ] && bad=1 # it broke before it could count
    passed=$((passed + $(count passed)))
    failed=$((failed + bad))
    skipped=$((skipped + $(count skipped) + $(count ignored)))
}
finish() {
    [ -z "$why" ] || printf '\nwhat went wrong\n%s' "$why"
    printf '\npassed: %s\n' "${done_well[*]:+$(printf '%s, ' "${done_well[@]}" | sed 's/, $//')}"
    if ((${#done_badly[@]})); then
        printf 'FAILED: %s\n' "$(printf '%s, ' "${done_badly[@]}" | sed 's/, $//')"
        ((failed)) || failed=${#done_badly[@]}
    fi
    if ((skipped)); then
        printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    else
        printf '%d passed, %d failed\n' "$passed" "$failed"
    fi
    exit $((failed > 0))
}
# stage: goes on only while all is well.
stage() {
    ((${#done_badly[@]} == 0)) || finish
}

EMULATOR=(--manifest-path netns/emulator/Cargo.toml --target-dir netns/emulator/target)
CLIPPY=(--release --locked --all-targets)

check "ruff check" 60 ruff check .
check "ruff format" 60 ruff format --check .
check "rustfmt" 60 cargo fmt --all --check
check "rustfmt of the emulator" 60 cargo fmt --manifest-path netns/emulator/Cargo.toml --check
check "mypy" 600 mypy peertap netns tools
check "stubtest" 300 python -m mypy.stubtest peertap._core --mypy-config-file pyproject.toml
check "clippy" 900 cargo clippy "${CLIPPY[@]}" --workspace -- -D warnings
check "clippy of the emulator" 300 cargo clippy "${CLIPPY[@]}" "${EMULATOR[@]}" -- -D warnings
if [ "${1:-}" = --lint ]; then
    passed=${#done_well[@]}
    finish
fi
stage

tests "cargo test" $((FULL ? 3600 : 900)) cargo test --release --locked --workspace
tests "cargo test of the emulator" 300 cargo test --release --locked "${EMULATOR[@]}"
tests "pytest" $((FULL ? 5400 : 600)) python -m pytest
stage

short=(--short)
((FULL)) && short=()
tests "scenarios" $((FULL ? 7200 : 1200)) python -m netns run --all "${short[@]}"
each=(pair)
((FULL)) && each=(--all)
tests "each offload off" $((FULL ? 36000 : 600)) python -m netns run "${each[@]}" "${short[@]}" --each-offload-off
finish
