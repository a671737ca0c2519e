//! The error budget of one session: how many mistakes, idle commands, unknown recipients and refusals it has had.
//!
//! Promises that a client which delivers mail never runs out: an accepted message clears the tally.

use crate::smtp::step::Load;

/// Mistakes before the answers slow down.
pub(super) const SOFT_ERRORS: u32 = 5;
/// The mistake that ends the session.
pub(super) const HARD_ERRORS: u32 = 10;
/// The same when the server is busy.
pub(super) const HARD_ERRORS_STRESSED: u32 = 3;
/// NOOP, RSET, VRFY, HELP, hellos, empty chunks and repeated recipients since the last message (SMTP S2).
pub(super) const MAX_IDLE_COMMANDS: u32 = 100;
/// The same when the server is busy.
pub(super) const MAX_IDLE_COMMANDS_STRESSED: u32 = 25;
/// Recipients that do not exist, in one session (SMTP S15). Old address lists of honest senders stay below.
pub(super) const MAX_UNKNOWN_RECIPIENTS: u32 = 20;
/// The same when the server is busy.
pub(super) const MAX_UNKNOWN_RECIPIENTS_STRESSED: u32 = 5;
/// What else was refused, 4yz or `552`, and not for a mistake: MAIL without room or over the size, STARTTLS, recipients
/// that cannot be asked about (SMTP S2). A whole message that is refused counts against MAILMAX alone.
pub(super) const MAX_REFUSALS: u32 = 100;
/// The same when the server is busy.
pub(super) const MAX_REFUSALS_STRESSED: u32 = 25;
/// Recipients over the limit of one transaction that count as one refusal; each beyond them counts. Postfix and Exchange
/// say a whole list at once, and deliver to those that were taken: stress does not make them fewer.
pub(super) const MAX_RECIPIENTS_OVER: usize = 1000;

/// What has been counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    errors: u32,
    idle_commands: u32,
    unknown_recipients: u32,
    refusals: u32,
}

/// What follows from one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is answered as ever.
    Fine,
    /// It is answered after a pause.
    Slow,
    /// It is answered 421.
    Spent,
}

impl Tally {
    /// A command was refused for its syntax or order.
    pub(super) const fn error(&mut self, load: Load) -> Verdict {
        self.errors += 1;
        let hard = match load {
            Load::Calm => HARD_ERRORS,
            Load::Stressed => HARD_ERRORS_STRESSED,
        };
        if self.errors >= hard {
            Verdict::Spent
        } else if self.errors > SOFT_ERRORS {
            Verdict::Slow
        } else {
            Verdict::Fine
        }
    }

    /// A command that brings no mail nearer.
    pub(super) const fn idle_command(&mut self, load: Load) -> Verdict {
        self.idle_commands += 1;
        judged(self.idle_commands, load, MAX_IDLE_COMMANDS, MAX_IDLE_COMMANDS_STRESSED)
    }

    /// A recipient does not exist.
    pub(super) const fn unknown_recipient(&mut self, load: Load) -> Verdict {
        self.unknown_recipients += 1;
        judged(self.unknown_recipients, load, MAX_UNKNOWN_RECIPIENTS, MAX_UNKNOWN_RECIPIENTS_STRESSED)
    }

    /// Something was refused that is no mistake.
    pub(super) const fn refusal(&mut self, load: Load) -> Verdict {
        self.refusals += 1;
        judged(self.refusals, load, MAX_REFUSALS, MAX_REFUSALS_STRESSED)
    }
}

const fn judged(count: u32, load: Load, calm: u32, stressed: u32) -> Verdict {
    let most = match load {
        Load::Calm => calm,
        Load::Stressed => stressed,
    };
    if count > most { Verdict::Spent } else { Verdict::Fine }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_slow_after_five_and_end_with_the_tenth() {
        let mut tally = Tally::default();
        let verdicts: Vec<Verdict> = (0..10).map(|_| tally.error(Load::Calm)).collect();
        assert_eq!(verdicts[..5], [Verdict::Fine; 5]);
        assert_eq!(verdicts[5..9], [Verdict::Slow; 4]);
        assert_eq!(verdicts[9], Verdict::Spent);
        let mut tally = Tally::default();
        let stressed: Vec<Verdict> = (0..3).map(|_| tally.error(Load::Stressed)).collect();
        assert_eq!(stressed, [Verdict::Fine, Verdict::Fine, Verdict::Spent]);
    }

    #[test]
    fn the_limit_of_idle_commands_unknown_recipients_and_refusals_is_taken_and_one_more_is_not() {
        for (load, idle, unknown, refusals) in [
            (Load::Calm, MAX_IDLE_COMMANDS, MAX_UNKNOWN_RECIPIENTS, MAX_REFUSALS),
            (
                Load::Stressed,
                MAX_IDLE_COMMANDS_STRESSED,
                MAX_UNKNOWN_RECIPIENTS_STRESSED,
                MAX_REFUSALS_STRESSED,
            ),
        ] {
            let mut tally = Tally::default();
            assert!((0..idle).all(|_| tally.idle_command(load) == Verdict::Fine));
            assert_eq!(tally.idle_command(load), Verdict::Spent);
            assert!((0..unknown).all(|_| tally.unknown_recipient(load) == Verdict::Fine));
            assert_eq!(tally.unknown_recipient(load), Verdict::Spent);
            assert!((0..refusals).all(|_| tally.refusal(load) == Verdict::Fine));
            assert_eq!(tally.refusal(load), Verdict::Spent);
        }
    }
}
