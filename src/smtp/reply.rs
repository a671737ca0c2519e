//! Every reply we give, as named constants: code, enhanced code (RFC 3463), text.
//!
//! The text is printable ASCII and never echoes the client. The trace id is added by [`Reply::with_trace`].

use std::borrow::Cow;

use crate::id::DeliveryId;
use crate::smtp::Reply;

impl Reply {
    /// A reply with a fixed text.
    #[must_use]
    pub const fn new(code: u16, enhanced: &'static str, text: &'static str) -> Self {
        Self { code, enhanced, text: Cow::Borrowed(text), trace: None }
    }

    /// The same reply, naming the trace that explains it.
    #[must_use]
    pub fn with_trace(self, trace: DeliveryId) -> Self {
        Self { trace: Some(trace), ..self }
    }

    /// The line as it is sent, without CRLF: `550 5.1.1 No such address here [trace 0190…]`.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = self.code.to_string();
        for part in [self.enhanced, &self.text] {
            if !part.is_empty() {
                line.push(' ');
                line.push_str(part);
            }
        }
        if let Some(trace) = self.trace {
            line.push_str(&format!(" [trace {trace}]"));
        }
        line
    }
}

/// Filed, held or knowingly discarded: the message is ours now (RFC 5321 section 6.1).
pub const MESSAGE_ACCEPTED: Reply = Reply::new(250, "2.0.0", "Message accepted");
/// R10.
pub const BAD_FROM: Reply = Reply::new(550, "5.7.1", "From must hold exactly one clean address");
/// R13.
pub const DMARC_REJECT: Reply =
    Reply::new(550, "5.7.26", "Message is not authenticated for its From domain, whose policy is reject");
/// R14.
pub const LOOKUP_FAILED: Reply =
    Reply::new(451, "4.4.3", "A DNS look-up failed for now, please try again later");
/// R15.
pub const SENDER_NOT_ALLOWED: Reply = Reply::new(550, "5.7.1", "This sender may not write to this address");
/// R52.
pub const DAILY_LIMIT: Reply =
    Reply::new(452, "4.7.1", "Daily limit of this address reached, please try again later");
/// R62: rotated, disconnected or revoked.
pub const ADDRESS_OFF: Reply = Reply::new(550, "5.2.1", "This address is no longer in use");
/// Too many Received fields or our own loop header (RFC 5321 section 6.3).
pub const LOOP: Reply = Reply::new(554, "5.4.6", "This message is going round in a loop");
/// The scanner found malware.
pub const MALWARE: Reply = Reply::new(554, "5.7.1", "Malware found");
/// The message breaks a structural limit, has bare newlines, or is empty.
pub const BAD_SYNTAX: Reply = Reply::new(550, "5.6.0", "Message is malformed");
/// Over a structural limit: headers, parts, nesting, signatures.
pub const TOO_COMPLEX: Reply = Reply::new(554, "5.6.0", "Message is over a structural limit");
/// Over the size limit.
pub const TOO_LARGE: Reply = Reply::new(552, "5.3.4", "Message is over the size limit");
/// The store is away or too slow.
pub const STORE_UNAVAILABLE: Reply =
    Reply::new(451, "4.3.0", "Storage is not available now, please try again later");
/// No such address, or a forged token: the same text for all.
pub const UNKNOWN_ADDRESS: Reply = Reply::new(550, "5.1.1", "No such address here");
/// Not our domain.
pub const RELAY_DENIED: Reply = Reply::new(550, "5.7.1", "We do not serve this domain and do not relay");
/// RCPT accepted.
pub const RECIPIENT_OK: Reply = Reply::new(250, "2.1.5", "Recipient ok");
