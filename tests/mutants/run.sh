#!/bin/sh
# Proves that the tests of the SMTP front can fail: puts one defect at a time into a copy of the sources and runs there
# the few tests that must notice it. A defect that they do not notice, or that no longer fits the sources, ends this with 1;
# so does a test that fails there without any defect, which would notice everything.
#   tests/mutants/run.sh           all of them
#   tests/mutants/run.sh five      those that matter most: state kept across STARTTLS, LF . LF, a dot in the first line,
#                                  a reply before the commit (of the session, of the store), two From fields
#   tests/mutants/run.sh 'reply'   those with this in their names
set -eu
here=$(cd "$(dirname "$0")/../.." && pwd)
which=${1:-all}
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$here/target}" RUST_BACKTRACE=0
# Always the same place: what the compiler made there before is used again.
copy=$CARGO_TARGET_DIR/mutants
rm -rf "$copy"
mkdir -p "$copy/src" && cd "$here"
trap 'rm -rf "$copy"' EXIT
cp -R Cargo.toml Cargo.lock .clippy.toml README.md benches tests fixtures certs "$copy/"
missed=0

# in_copy COMMAND…: what it says is in the log.
in_copy() {
    (cd "$copy" && "$@" > "$copy/log" 2>&1)
}

fresh_sources() {
    rm -rf "$copy/src" && cp -R "$here/src" "$copy/src"
}

# The test binary, whose path becomes $program: run by itself, it waits for no other cargo.
build() {
    in_copy cargo test --test "$binary" --no-run || return 1
    program=$(sed -n 's/^ *Executable .*(\(.*\))$/\1/p' "$copy/log")
}

# mutant NAME FILE TESTS SED-EXPRESSION…: TESTS is a test binary and pieces of names of tests in it.
mutant() {
    name=$1 file=$2 binary=${3%% *} filters=${3#* }
    shift 3
    case "$which:$name" in
        all:* | five:* | *:*"$which"*) "$phase" "$@" ;;
    esac
}

# Each of these pieces of names names tests, and all of them pass as long as there is no defect.
control() {
    build || { echo "$binary does not compile without a defect"; tail -n 20 "$copy/log"; exit 1; }
    for filter in $filters; do
        if ! in_copy timeout 120 "$program" "$filter" || ! grep -q '^test result: ok\. [1-9]' "$copy/log"; then
            echo "$binary $filter: no test, or one that fails without a defect"; tail -n 20 "$copy/log"; missed=1
        fi
    done
}

defect() {
    fresh_sources
    for expression in "$@"; do
        before=$(cksum < "$copy/$file")
        sed -i "$expression" "$copy/$file"
        if [ "$before" = "$(cksum < "$copy/$file")" ]; then
            echo "$name: does not fit the sources any more: $expression"; missed=1; return
        fi
    done
    if ! build; then
        echo "$name: does not compile"; grep -m3 -A6 '^error' "$copy/log"; missed=1; return
    fi
    # shellcheck disable=SC2086 # pieces of names, one word each
    if in_copy timeout 120 "$program" $filters; then
        echo "$name: NOT NOTICED"; missed=1
    else
        # A defect that makes a test wait for ever is noticed too, and one that ends them all.
        failed=$(sed -n 's/^test result: FAILED.* \([0-9]*\) failed.*/\1/p' "$copy/log")
        echo "$name: noticed by ${failed:-one, which does not end,} of the tests"
    fi
}

mutants() {
    mutant 'state kept across STARTTLS' src/smtp/session.rs 'smtp_session nothing_learned_before b4_' \
        's/^        \*self = Self::fresh(Arc::clone(&self.settings), self.client.ip);/        self.phase = Phase::Ready;/'
    mutant 'LF . LF ends DATA' src/smtp/data.rs 'smtp_session m31_no_ending m31_bare_newlines' \
        "s/^            (State::DotCr, b'.n') => {/            (State::DotCr | State::Dot, b'\\\\n') => {/" \
        "s/(State::Dot | State::LineStart | State::Text, b'.n') => self.bare(State::Text)/(State::Dot | State::LineStart | State::Text, b'\\\\n') => State::LineStart/"
    mutant 'a dot in the first line is missed' src/smtp/data.rs 'smtp_session d3_ d4_' \
        's/^            state: State::LineStart,/            state: State::Text,/'
    mutant 'reply before commit' src/smtp/transaction.rs 'smtp_session the_reply_after_the_last_byte d1_handler_refuses' \
        's/^        let client = self.client.clone();/        self.say(\&reply::MESSAGE_ACCEPTED); let client = self.client.clone();/'
    mutant 'the store answers before its commit' src/store/writer.rs 'store sqlite::r2_' \
        's/^        transaction.commit().await?;/        tokio::spawn(async move { tokio::time::sleep(std::time::Duration::from_millis(100)).await; let _late = transaction.commit().await; });/'
    mutant 'From count unchecked' src/message/addresses.rs 'message_corpora our_own_mails' \
        's/^        (Some(_), Some(_)) => From::Bad("more than one From field"),/        (Some(field), Some(_)) => strict(field.value).map_or_else(From::Bad, From::One),/'
    [ "$which" = five ] && return

    mutant 'input behind STARTTLS is run' src/smtp/session.rs 'smtp_session input_behind_starttls b5_' \
        's/^        if !self.input.is_empty() {/        if self.input.len() > 1_000_000 {/'
    mutant 'CRLF . CR CR LF ends DATA' src/smtp/data.rs 'smtp_session m31_no_ending m31_bare_newlines' \
        "s/^            (State::Cr | State::DotCr, b'.r') => self.bare(State::Cr),/            (State::DotCr, b'\\\\r') => return, (State::Cr, b'\\\\r') => self.bare(State::Cr),/"
    mutant 'a cut-off body is accepted' src/smtp/session.rs 'smtp_session too_large_or_bare bare_newline d6_' \
        's/if is_kept =>/if is_kept \&\& answer.code == 1 =>/'
    mutant 'bare LF ends a command' src/smtp/command.rs 'smtp_session c10_ c9_' \
        "s/if line.contains(&b'.n') {/if line.is_empty() {/" \
        's/if line.iter().any(u8::is_ascii_control) {/if line.is_empty() {/'
    mutant 'the same recipient is delivered twice' src/smtp/transaction.rs 'smtp_session c20_' \
        's/recipient.path == path/recipient.path != path \&\& recipient.path == path/'
    mutant 'a body is kept though its transaction has gone' src/smtp/session.rs 'smtp_session s16_' \
        's/^            if self.body == Holding::Something && /            if self.input.len() > 1_000_000 \&\& self.body == Holding::Something \&\& /'
    mutant 'empty chunks are in no budget' src/smtp/transaction.rs 'smtp_session s2_empty s16_bdat' \
        's/^        if size_bytes == 0 \&\& position/        if size_bytes == u64::MAX \&\& position/'
    mutant 'a client that never pauses has no end' src/smtp/driver.rs 'smtp_session x7_a_session_ends_though' \
        's/^            if Instant::now() >= ends {/            if self.shared.refused.len() > 1_000_000 {/'
    mutant 'stress does not reach those who wait' src/smtp/driver.rs 'smtp_session d21_x7_' \
        's/timeout_at(deadline.min(look), reading)/timeout_at(deadline, reading)/' \
        's/Err(_) if deadline <= look => {/Err(_) if deadline <= look || deadline > look => {/'
    mutant 'a refusal over its budget is written down' src/smtp/throttle.rs 'smtp_session s15_who' \
        's/^            if has_room { Room::Enough } else { Room::Scarce }/            if has_room { Room::Enough } else { Room::Enough }/'
    mutant 'the queue of a server that stops is lost' src/smtp/listener.rs 'smtp_session a2_who_' \
        's/^        if self.origin == Origin::Ours {/        if self.origin != self.origin {/'
}

fresh_sources
phase=control
mutants
[ $missed = 0 ] || exit 1
phase=defect
mutants
exit $missed
