#!/bin/sh
# Proves that the SMTP tests can fail: puts one defect at a time into a copy of the sources and runs them there.
# A defect that no test notices, or that no longer fits the sources, ends this with 1.
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
tests='--test smtp_session'
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
mkdir "$copy/src" && cd "$here"
cp -R Cargo.toml Cargo.lock .clippy.toml tests fixtures certs "$copy/"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$here/target}" RUST_BACKTRACE=0
missed=0

# mutant NAME FILE SED-EXPRESSION…
mutant() {
    name=$1 file=$2
    shift 2
    rm -rf "$copy/src" && cp -R "$here/src" "$copy/src"
    for expression in "$@"; do
        before=$(cksum < "$copy/$file")
        sed -i "$expression" "$copy/$file"
        if [ "$before" = "$(cksum < "$copy/$file")" ]; then
            echo "$name: does not fit the sources any more: $expression"; missed=1; return
        fi
    done
    if ! (cd "$copy" && cargo test --quiet $tests --no-run > "$copy/log" 2>&1); then
        echo "$name: does not compile"; grep -m3 -A6 '^error' "$copy/log"; missed=1; return
    fi
    if (cd "$copy" && cargo test --quiet $tests > "$copy/log" 2>&1); then
        echo "$name: NOT NOTICED"; missed=1
    else
        failed=$(sed -n 's/^test result: FAILED.* \([0-9]*\) failed.*/\1/p' "$copy/log")
        echo "$name: noticed by ${failed:-?} tests"
    fi
}

mutant 'state kept across STARTTLS' src/smtp/session.rs \
    's/^        \*self = Self::fresh(Arc::clone(&self.settings), self.client.ip);/        self.phase = Phase::Ready;/'
mutant 'input behind STARTTLS is run' src/smtp/session.rs \
    's/^        if !self.input.is_empty() {/        if self.input.len() > 1_000_000 {/'
mutant 'LF . LF ends DATA' src/smtp/data.rs \
    "s/^            (State::DotCr, b'.n') => {/            (State::DotCr | State::Dot, b'\\\\n') => {/" \
    "s/(State::Dot | State::LineStart | State::Text, b'.n') => self.bare(State::Text)/(State::Dot | State::LineStart | State::Text, b'\\\\n') => State::LineStart/"
mutant 'CRLF . CR CR LF ends DATA' src/smtp/data.rs \
    "s/^            (State::Cr | State::DotCr, b'.r') => self.bare(State::Cr),/            (State::DotCr, b'\\\\r') => return, (State::Cr, b'\\\\r') => self.bare(State::Cr),/"
mutant 'a dot in the first line is missed' src/smtp/data.rs \
    's/^            state: State::LineStart,/            state: State::Text,/'
mutant 'reply before commit' src/smtp/transaction.rs \
    's/^        let client = self.client.clone();/        self.say(\&reply::MESSAGE_ACCEPTED); let client = self.client.clone();/'
mutant 'a cut-off body is accepted' src/smtp/session.rs \
    's/if is_kept =>/if is_kept \&\& answer.code == 1 =>/'
mutant 'bare LF ends a command' src/smtp/command.rs \
    "s/if line.contains(&b'.n') {/if line.is_empty() {/" \
    's/if line.iter().any(u8::is_ascii_control) {/if line.is_empty() {/'
mutant 'the same recipient is delivered twice' src/smtp/transaction.rs \
    's/recipient.path == path/recipient.path != path \&\& recipient.path == path/'
tests='--lib message::'
mutant 'From count unchecked' src/message/addresses.rs \
    's/^        (Some(_), Some(_)) => From::Bad("more than one From field"),/        (Some(field), Some(_)) => strict(field.value).map_or_else(From::Bad, From::One),/'
exit $missed
