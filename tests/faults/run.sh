#!/usr/bin/env bash
# Makes the faults in full and prints their table; with words, only those tests whose names hold one of them:
#   tests/faults/run.sh [x1 anomaly …]
# In a release build; takes about an hour. `cargo test --test faults` makes a few rounds of each. Root may mount the small disks.
# A test that is skipped, since something is missing, is a failure here.
set -euo pipefail
cd "$(dirname "$0")/../.."
export SYNCMX_FAULTS=full
out=target/faults.txt
mkdir -p target
printf '| | fault | measured | |\n|---|---|---|---|\n'
# One after the other: a fault is to meet the server alone.
status=0
cargo test --locked --release --test faults -- --nocapture --test-threads=1 "$@" >"$out" 2>&1 || status=$?
grep -oE '\| [A-Za-z0-9]+ \| .* \| (pass|\*\*fail\*\*) \|$|skipped: .*' "$out" || true
[ "$status" = 0 ] || { echo "see $out" >&2; exit "$status"; }
# With the name of the test, in whose line it is.
if grep 'skipped: ' "$out" >&2; then
    echo "not all faults were made: see $out" >&2
    exit 1
fi
