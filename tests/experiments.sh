#!/usr/bin/env bash
# Makes the experiments of the SMTP front on the real program, in a release build, and prints their table; with words,
# only those; ends with 1 when a row of it fails:
#   tests/experiments.sh [X7 X12 …]
# Takes about twelve minutes in full, once it is built. What needs no load is made by ordinary tests, which are run
# behind it.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly wanted=("$@")

main() {
    cargo bench --locked --quiet --bench experiments -- "$@" --scale 100
    row X13 "every octet, bare CR and LF, in one piece and octet by octet, over a pipe, TCP and TLS" smtp_session ""
    row X15 "a restart on a socket that is kept" e2e x15_
    row X17 "SIGHUP with a good and a bad file" e2e x17_
}

# row ID WHAT TARGET TEST…: an experiment that is a test. The tests must be there.
row() {
    local id=$1 what=$2 target=$3 passed='**fail**' out
    shift 3
    [ ${#wanted[@]} = 0 ] || [[ " ${wanted[*]} " == *" $id "* ]] || return 0
    out=$(cargo test --locked --quiet --test "$target" -- "$@" 2>&1) && grep -qE '^test result: ok\. [1-9]' <<<"$out" && passed=pass
    printf '| %s | %s | %s | %s |\n' "$id" "$what" "$(grep -oE '[0-9]+ passed; [0-9]+ failed' <<<"$out" | tail -1)" "$passed"
}

mkdir -p target
main "$@" | tee target/experiments.txt
! grep -F '**fail**' target/experiments.txt >&2
