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
/// RFC 7505 section 4.2 (row C23).
pub const NULL_MX: Reply = Reply::new(
    550,
    "5.7.27",
    "Sender address has a null MX: its domain takes no mail, so none can be answered",
);
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
/// The scanner did not answer, or not clearly.
pub const NOT_SCANNED: Reply =
    Reply::new(451, "4.7.1", "The malware scanner does not answer, please try again later");
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

/// The session ends at the client's wish (RFC 5321 section 4.1.1.10).
pub const BYE: Reply = Reply::new(221, "2.0.0", "Bye");
/// RFC 3207 section 4.
pub const START_TLS: Reply = Reply::new(220, "2.0.0", "Ready to start TLS");
/// NOOP.
pub const NOOP_OK: Reply = Reply::new(250, "2.0.0", "Ok");
/// RSET.
pub const RESET_OK: Reply = Reply::new(250, "2.0.0", "Transaction dropped");
/// MAIL accepted.
pub const SENDER_OK: Reply = Reply::new(250, "2.1.0", "Sender ok");
/// A chunk that is not the last (RFC 3030 section 2). It promises nothing about the message.
pub const CHUNK_OK: Reply = Reply::new(250, "2.0.0", "Chunk received");
/// VRFY tells nobody which addresses exist (RFC 5321 section 7.3).
pub const VRFY_ANSWER: Reply = Reply::new(252, "2.1.5", "Send mail and see");
/// HELP.
pub const HELP_ANSWER: Reply = Reply::new(214, "2.0.0", "This is a mail exchanger, see RFC 5321");
/// DATA may begin.
pub const SEND_DATA: Reply = Reply::new(354, "", "End data with <CR><LF>.<CR><LF>");
/// Row S3: somebody else's protocol.
pub const NOT_SMTP: Reply = Reply::new(554, "5.5.1", "This is an SMTP server");
/// Row A4: the client did not wait for the banner (RFC 5321 section 3.1).
pub const TALKED_EARLY: Reply = Reply::new(554, "5.5.1", "You must wait for the greeting");
/// Row A3: `smtp.refuse_from`.
pub const NO_SERVICE: Reply = Reply::new(554, "5.7.1", "No SMTP service for your network");
/// Our reader has failed on the message, or takes too long for it: our trouble.
pub const NOT_READ: Reply =
    Reply::new(451, "4.3.0", "Message cannot be processed now, please try again later");
/// No such command.
pub const UNKNOWN_COMMAND: Reply = Reply::new(500, "5.5.1", "Command not recognised");
/// Over the line limit.
pub const LINE_TOO_LONG: Reply = Reply::new(500, "5.5.2", "Line too long");
/// A bare LF inside a command line.
pub const BARE_LF_IN_COMMAND: Reply = Reply::new(500, "5.5.2", "Lines end with CR LF");
/// Control characters, bare CR, or 8-bit octets where none belong.
pub const UNPRINTABLE_COMMAND: Reply =
    Reply::new(501, "5.5.2", "Command holds octets that do not belong there");
/// No `FROM:` or `TO:`, or no space behind the path.
pub const BAD_COMMAND_SYNTAX: Reply = Reply::new(501, "5.5.2", "Syntax error");
/// A missing, superfluous or wrong argument or parameter value.
pub const BAD_ARGUMENT: Reply = Reply::new(501, "5.5.4", "Syntax error in the argument");
/// The reverse-path cannot be read.
pub const BAD_REVERSE_PATH: Reply = Reply::new(501, "5.1.7", "Sender address cannot be read");
/// The forward-path cannot be read.
pub const BAD_FORWARD_PATH: Reply = Reply::new(501, "5.1.3", "Recipient address cannot be read");
/// Known, and never done here.
pub const NOT_IMPLEMENTED: Reply = Reply::new(502, "5.5.1", "Command not implemented");
/// Out of order.
pub const BAD_SEQUENCE: Reply = Reply::new(503, "5.5.1", "Bad sequence of commands");
/// DATA or BDAT after every recipient was refused.
pub const NO_VALID_RECIPIENTS: Reply = Reply::new(554, "5.5.1", "No valid recipients");
/// RFC 3207 section 4.2 and CVE-2011-0411: what follows STARTTLS in clear.
pub const INPUT_BEHIND_STARTTLS: Reply =
    Reply::new(554, "5.5.0", "Nothing may follow STARTTLS before the handshake");
/// RFC 5321 section 4.1.1.11.
pub const UNKNOWN_PARAMETER: Reply = Reply::new(555, "5.5.4", "Parameter not recognised");
/// RFC 6531 section 3.5, at MAIL.
pub const SENDER_NEEDS_SMTPUTF8: Reply = Reply::new(550, "5.6.7", "This address needs SMTPUTF8");
/// RFC 6531 section 3.5, at RCPT.
pub const RECIPIENT_NEEDS_SMTPUTF8: Reply = Reply::new(553, "5.6.7", "This address needs SMTPUTF8");
/// RFC 5321 section 4.5.3.1.10: the recipients so far are still served.
pub const TOO_MANY_RECIPIENTS: Reply = Reply::new(452, "4.5.3", "Too many recipients, send the rest later");
/// Disk nearly full, or the memory for message bodies is used up.
pub const INSUFFICIENT_STORAGE: Reply =
    Reply::new(452, "4.3.1", "Not enough room now, please try again later");
/// STARTTLS where there is no certificate (RFC 3207 section 4).
pub const TLS_UNAVAILABLE: Reply = Reply::new(454, "4.7.0", "TLS is not available now");
/// `tls.require` (RFC 3207 section 4).
pub const TLS_REQUIRED: Reply = Reply::new(530, "5.7.0", "Must issue a STARTTLS command first");
/// The client was silent for too long (RFC 5321 section 4.5.3.2).
pub const TIMED_OUT: Reply = Reply::new(421, "4.4.2", "Waited too long for you, closing");
/// SIGTERM.
pub const SHUTTING_DOWN: Reply = Reply::new(421, "4.3.2", "Shutting down, please try again soon");
/// Over a cap of connections, all in all or of one network.
pub const TOO_MANY_CONNECTIONS: Reply =
    Reply::new(421, "4.7.0", "Too many connections, please try again later");
/// The error budget of the session is used up.
pub const TOO_MANY_ERRORS: Reply = Reply::new(421, "4.7.0", "Too many errors, closing");
/// More transactions than LIMITS MAILMAX announced (RFC 9422).
pub const TOO_MANY_MAILS: Reply =
    Reply::new(421, "4.7.0", "Too many messages in this session, please open another");

#[cfg(test)]
mod tests {
    use super::*;

    /// The source itself, so that no constant can be forgotten.
    fn constants() -> Vec<(u16, &'static str, &'static str)> {
        let source = include_str!("reply.rs");
        let (replies, _) = source.split_once("#[cfg(test)]").unwrap();
        let mut found = Vec::new();
        for call in replies.split("Reply::new(").skip(1) {
            let (code, rest) = call.split_once(',').unwrap();
            let mut quoted = rest.split('"');
            let (enhanced, text) = (quoted.nth(1).unwrap(), quoted.nth(1).unwrap());
            found.push((code.trim().parse().unwrap(), enhanced, text));
        }
        found
    }

    #[test]
    fn every_reply_is_printable_short_and_of_one_class_in_both_codes() {
        let constants = constants();
        assert!(constants.len() > 40);
        for (code, enhanced, text) in constants {
            assert!(text.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic()), "{text}");
            assert!(!text.is_empty() && text.len() <= 400, "{text}");
            let class = code / 100;
            if class == 3 {
                assert_eq!(enhanced, "", "RFC 2034 section 4: none on 354");
            } else {
                // 220 to STARTTLS and all others: the class digit equals the first digit (RFC 3463 section 2).
                assert!(enhanced.starts_with(&format!("{class}.")), "{code} {enhanced}");
                assert_eq!(enhanced.split('.').count(), 3, "{code} {enhanced}");
            }
        }
    }

    #[test]
    fn the_line_ends_with_the_trace() {
        let trace = DeliveryId::generate();
        let line = UNKNOWN_ADDRESS.with_trace(trace).line();
        assert_eq!(line, format!("550 5.1.1 No such address here [trace {trace}]"));
        assert_eq!(SEND_DATA.line(), "354 End data with <CR><LF>.<CR><LF>");
    }
}
