//! SMTP.md M2, M3: a DKIM pass speaks for the fields it covers and for no others. Pure.
//!
//! Whoever replays a signed message may put further fields on top of it; which ones a reader is shown then depends on
//! the reader. Where SPF proves the client too, nobody stood in between, and nothing is asked.

use super::content::Content;
use super::{AlignedBy, Alignment, AuthResult, Dkim, Spf, Uncovered, align};

/// Fields that we show or act on.
const CRITICAL: [&str; 6] = ["Content-Type", "Date", "Message-ID", "Reply-To", "Subject", "To"];

/// The critical fields that the signatures of the aligned domain leave open.
pub(super) fn uncovered(
    content: &Content<'_>,
    alignment: &Alignment,
    dkim: &[Dkim],
    spf: &Spf,
    from: &str,
) -> Uncovered {
    let Alignment::Aligned { by: AlignedBy::Dkim, domain } = alignment else { return Uncovered::default() };
    let is_direct = spf.result == AuthResult::Pass
        && spf.domain.as_deref().is_some_and(|sender| align::are_related(sender, from));
    if is_direct {
        return Uncovered::default();
    }
    let counts = |signature: &&Dkim| signature.result == AuthResult::Pass && signature.domain == *domain;
    let mut open = Uncovered::default();
    for name in CRITICAL {
        let present = content.fields.iter().filter(|field| field.is(name)).count();
        let covered = dkim
            .iter()
            .filter(counts)
            .map(|signature| signature.signed_fields.iter().filter(|f| f.eq_ignore_ascii_case(name)).count())
            .max()
            .unwrap_or(0);
        match (present, covered) {
            (0, _) => {}
            (_, 0) => open.unsigned.push(name),
            (present, covered) if covered < present && present > 1 => open.added.push(name),
            _ => {}
        }
    }
    open
}
