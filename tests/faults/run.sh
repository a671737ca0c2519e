#!/usr/bin/env bash
# Makes the faults in full and prints their table; with words, only those tests whose names hold one of them:
#   tests/faults/run.sh [x1 anomaly …]
# In a release build; takes about an hour. `cargo test --test faults` makes a few rounds of each. Root may mount the small disks.
set -euo pipefail
cd "$(dirname "$0")/../.."
export SYNCMX_FAULTS=full
out=target/faults.txt
printf '| | fault | measured | |\n|---|---|---|---|\n'
# One after the other: a fault is to meet the server alone.
status=0
cargo test --locked --release --test faults -- --nocapture --test-threads=1 "$@" >"$out" 2>&1 || status=$?
grep -oE '\| [A-Za-z0-9]+ \| .* \| (pass|\*\*fail\*\*) \|$|skipped: .*' "$out" || true
[ "$status" = 0 ] || { echo "see $out" >&2; exit "$status"; }
