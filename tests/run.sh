#!/usr/bin/env bash
# Runs every check, cheapest first; installs what is missing before. For people and machines alike:
#   tests/run.sh              everything
#   tests/run.sh fmt clippy   these steps only: fmt, clippy, doc, test, mutants, scores
# Needs Rust (rustup brings the rest of it) and a C compiler for SQLite, zstd and aws-lc. Reads nothing from stdin.
set -euo pipefail
cd "$(dirname "$0")/.."
exec </dev/null

readonly steps=("${@:-all}")
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
before=$(git status --porcelain 2>/dev/null || true)

main() {
    install_missing
    step fmt cargo fmt --check
    step clippy cargo clippy --locked --all-targets -- -D warnings
    step doc env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
    step test cargo test --locked --no-fail-fast
    # The rest of the tests asks both engines by itself.
    step test env SYNCMX_TEST_ENGINE=postgres cargo test --locked --no-fail-fast --test http_api --test e2e
    step test env SYNCMX_TEST_SEAL_ROWS=1 cargo test --locked --no-fail-fast --test http_api --test e2e
    step mutants sh tests/mutants/run.sh five
    step scores scores
    unchanged
    echo "== all done in ${SECONDS} s"
}

# How far the public suites agree with us: suite, cases, score (or how many of them agree).
scores() {
    local out=target/scores.txt
    cargo test --locked --quiet --test auth_suites --test message_corpora --test reply_clients --test forward_clients --test forward_files -- --nocapture >"$out" 2>&1 || { cat "$out"; return 1; }
    printf '%-32s %6s %8s\n' suite cases score
    sed 's/^\.*//' "$out" | awk '/^skipped:/ || (NF >= 3 && $(NF-1) ~ /^[0-9]+$/ && $NF ~ /^[0-9.]+$/ && $1 !~ /^(test|running)/) {
        if ($1 == "skipped:") print; else printf "%-32s %6s %8s\n", substr($0, 1, index($0, $(NF-1)) - 2), $(NF-1), $NF
    }'
}

step() {
    local name=$1
    shift
    [[ " ${steps[*]} " == *" $name "* || ${steps[*]} == all ]] || return 0
    echo "== $name"
    local start=$SECONDS
    "$@" || { echo "== $name FAILED: $*" >&2; exit 1; }
    echo "== $name done in $((SECONDS - start)) s"
}

install_missing() {
    if ! command -v cargo >/dev/null; then
        echo "cargo is missing: install Rust 1.95 or newer, https://rustup.rs" >&2
        exit 1
    fi
    local component
    for component in fmt clippy; do
        cargo "$component" --version >/dev/null 2>&1 || rustup component add "${component/#fmt/rustfmt}"
    done
    command -v cc >/dev/null || apt_install gcc libc6-dev
    install_peers
}

# What the tests talk to: mail programs of others and PostgreSQL; below target/ nodemailer, dkimpy, an S3 server, and
# what verifies webhooks.
install_peers() {
    [[ ${steps[*]} == all || " ${steps[*]} " == *" test "* ]] || return 0
    local missing=() pair
    for pair in postfix:postfix swaks:swaks msmtp:msmtp clamd:clamav-daemon python3:python3 pip3:python3-pip node:nodejs npm:npm; do
        command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
    done
    # What swaks needs for STARTTLS.
    perl -MNet::SSLeay -e1 2>/dev/null || missing+=(libnet-ssleay-perl)
    # The tests start servers of their own: Debian's package is to make and start none.
    if ! compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null && ! command -v postgres >/dev/null; then
        missing+=(postgresql)
        [ -e /etc/postgresql-common/createcluster.conf ] ||
            as_root sh -c 'mkdir -p /etc/postgresql-common && echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf'
    fi
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
    [ -d target/peers/node_modules/nodemailer ] ||
        npm install --prefix target/peers --no-audit --no-fund --silent nodemailer@10
    # The S3 server of tests/support/bucket.rs.
    PYTHONPATH=target/peers/python python3 -c 'import moto.server, flask_cors' 2>/dev/null ||
        python3 -m pip install --quiet --disable-pip-version-check --target target/peers/python 'moto[server]==5.2.5'
    [ -d target/peers/node_modules/standardwebhooks ] ||
        npm install --prefix target/peers --no-audit --no-fund --silent standardwebhooks@1
    [ -d target/peers/python/dkim ] ||
        python3 -m pip install --quiet --target target/peers/python dkimpy==1.1.8
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

apt_install() {
    if ! command -v apt-get >/dev/null; then
        echo "missing, and no apt-get to install them: $*" >&2
        exit 1
    fi
    echo "== installing $*"
    as_root apt-get update -qq
    # Postfix is to start no service of its own.
    echo "postfix postfix/main_mailer_type select No configuration" | as_root debconf-set-selections || true
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold "$@"
}

# The checks must leave the working tree as they found it, whatever had been changed before.
unchanged() {
    git rev-parse --is-inside-work-tree >/dev/null 2>&1 || return 0
    local after
    after=$(git status --porcelain)
    if [ "$before" != "$after" ]; then
        echo "== the checks changed the working tree:" >&2
        diff <(echo "$before") <(echo "$after") >&2 || true
        exit 1
    fi
}

main
