//! What the fuzz targets do with their input: one function a target, shared with `tests/fuzz_replay.rs`.
//!
//! Each holds what must be true of any input at all; the first panic is a finding. Nothing here depends on the fuzzer.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use syncmx::address::{EmailAddress, Mailbox};
use syncmx::auth::{self, AuthResult, Dkim, Spf, Verdict};
use syncmx::id::DeliveryId;
use syncmx::message;
use syncmx::smtp::command::Command;
use syncmx::smtp::proxy::{Header, MAX_OCTETS};
use syncmx::smtp::session::{CloseReason, Session, Settings, Step, TlsPolicy};
use syncmx::smtp::{BodyDefect, Client, Envelope, ForwardPath, Recipient, RecipientAnswer, path, reply};
use syncmx::time::Timestamp;

/// A whole dialogue. The first octet picks TLS policy and cut; the rest is what the client says. However it is cut,
/// replies, questions and bodies are the same (STARTTLS apart, where a cut decides what stands behind it).
pub fn session(input: &[u8]) {
    let Some((choice, said)) = input.split_first() else { return };
    let tls = match choice % 3 {
        0 => TlsPolicy::Offered,
        1 => TlsPolicy::Required,
        _ => TlsPolicy::Unavailable,
    };
    let whole = Conversation::hold(tls, said, said.len().max(1));
    whole.check();
    let cut = Conversation::hold(tls, said, usize::from(choice / 3 % 16) + 1);
    cut.check();
    if !said.to_ascii_lowercase().windows(8).any(|word| word == b"starttls") {
        assert!(whole == cut, "whole: {whole:#?}\ncut: {cut:#?}");
    }
}

/// One command line, without its CRLF.
pub fn command_line(line: &[u8]) {
    let command = Command::parse(line);
    if line.iter().any(u8::is_ascii_control) {
        let is_refused = matches!(
            &command,
            Command::RefusedRecipient(reply) | Command::Replied(reply) if reply.code >= 500
        );
        assert!(is_refused || command == Command::UncountedChunk, "{command:?}");
    }
    match command {
        Command::RefusedRecipient(reply) | Command::Replied(reply) => check_line(&reply.line()),
        Command::Ehlo(name) | Command::Helo(name) => check_line(&name),
        Command::Mail(mail) => {
            if let Some(address) = mail.reverse_path {
                check_address(&address);
            }
        }
        Command::Rcpt(ForwardPath::Address(address)) => check_address(&address),
        Command::Bdat(..)
        | Command::Data
        | Command::OtherProtocol
        | Command::Quit
        | Command::Rcpt(ForwardPath::Postmaster)
        | Command::Rset
        | Command::StartTls
        | Command::UncountedChunk => {}
    }
}

/// Both kinds of path, from the front of a text. What is read reads the same again.
pub fn path(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Some((ForwardPath::Address(address), rest)) = path::forward_path(text) {
        check_address(&address);
        assert!(text.ends_with(rest));
        let again = format!("<{}>", address.as_str());
        assert_eq!(path::forward_path(&again), Some((ForwardPath::Address(address), "")), "{text:?}");
    }
    if let Some((reverse, rest)) = path::reverse_path(text) {
        assert!(text.ends_with(rest));
        let again = format!("<{}>", reverse.as_ref().map_or("", EmailAddress::as_str));
        assert_eq!(path::reverse_path(&again), Some((reverse, "")), "{text:?}");
    }
}

/// Chunks with true counts: what they hold is the message, whatever it looks like. Each chunk begins with an octet
/// for its length; an odd one is the last.
pub fn bdat(input: &[u8]) {
    let mut said = b"EHLO c.test\r\nMAIL FROM:<a@c.test>\r\nRCPT TO:<b@sync.test>\r\n".to_vec();
    let (mut body, mut rest, mut is_ended, mut empty) = (Vec::new(), input, false, 0);
    while let Some((size, behind)) = rest.split_first() {
        let chunk = &behind[..behind.len().min(usize::from(*size))];
        rest = &behind[chunk.len()..];
        body.extend_from_slice(chunk);
        is_ended = size % 2 == 1;
        empty += usize::from(chunk.is_empty() && !is_ended);
        let last = if is_ended { " LAST" } else { "" };
        said.extend_from_slice(format!("BDAT {}{last}\r\n", chunk.len()).as_bytes());
        said.extend_from_slice(chunk);
        if is_ended {
            break;
        }
    }
    let conversation = Conversation::hold(TlsPolicy::Offered, &said, said.len());
    conversation.check();
    assert!(conversation == Conversation::hold(TlsPolicy::Offered, &said, 1));
    // EHLO, too, is a command that brings no mail nearer.
    let is_patient = empty < 100;
    let is_kept = is_ended && is_patient && !body.is_empty() && body.len() as u64 <= MAX_MESSAGE_OCTETS;
    let kept: Vec<&Vec<u8>> =
        conversation.messages.iter().filter_map(|message| message.body.as_ref()).collect();
    assert_eq!(kept, if is_kept { vec![&body] } else { vec![] });
}

/// The header of the PROXY protocol. An answer, once given, does not change with what comes behind.
pub fn proxy(input: &[u8]) {
    let answer = Header::parse(input);
    if let Header::Read(length, _) = answer {
        assert!(length <= input.len() && length <= MAX_OCTETS);
        assert_eq!(Header::parse(&input[..length]), answer);
        assert_eq!(Header::parse(&input[..length - 1]), Header::Incomplete);
    }
    if answer == Header::Incomplete {
        assert!(input.len() < MAX_OCTETS);
    }
}

/// A message as received: the scan over its header and structure, then everything that is read from it.
pub fn header_scan(raw: &[u8]) {
    let Ok(email) = message::parse(raw) else { return };
    let _html = message::html(raw);
    for n in 0..=email.attachments.len() {
        let _content = message::open_attachment(raw, n);
    }
    if let Some(from) = email.from.address() {
        check_address(from);
    }
}

/// The fields that we put on top: three fields and nothing else, whatever client, sender and DNS have said; and what
/// is taken off a message that claims to come from us is taken off at once.
pub fn trace_fields(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut words = text.split('|').chain(std::iter::repeat(""));
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (envelope, verdict) = (envelope(&word(), &word(), &word()), verdict(&word(), &word(), &word()));
    let trace = DeliveryId::from_uuid(uuid::Uuid::nil());
    let now = Timestamp::from_millis(1_795_315_445_120);
    let written = auth::trace_fields(&envelope, &verdict, HOST, trace, now);
    let written = String::from_utf8_lossy(&written);
    let mut names = Vec::new();
    for line in written.split_inclusive('\n') {
        let text = line.strip_suffix("\r\n").unwrap_or("\n").trim_start_matches('\t');
        // An address that needs SMTPUTF8 stands as it is (RFC 6532); all else is ASCII.
        assert!(!text.chars().any(char::is_control) && line.len() <= 998, "{line:?}");
        if !line.starts_with("Return-Path:") && !text.starts_with("for <") {
            check_line(text);
        }
        if !line.starts_with([' ', '\t']) {
            names.push(line.split(':').next().unwrap_or_default());
        }
    }
    assert_eq!(names, ["Return-Path", "Received", "Authentication-Results"], "{written}");
    let once = auth::without_foreign_trace(input, HOST);
    assert_eq!(auth::without_foreign_trace(&once, HOST), once);
}

/// What came of a dialogue.
#[derive(Debug, Default, PartialEq, Eq)]
struct Conversation {
    said: Vec<u8>,
    recipients: Vec<ForwardPath>,
    messages: Vec<Message>,
    /// For how many recipients each.
    traces: Vec<usize>,
    closed: Option<CloseReason>,
}

/// What the handler was asked about.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    sender: Option<EmailAddress>,
    recipients: Vec<ForwardPath>,
    defect: Option<BodyDefect>,
    /// Where there is no defect.
    body: Option<Vec<u8>>,
}

impl Conversation {
    /// Says it in pieces of so many octets, and does what the session wants.
    fn hold(tls: TlsPolicy, said: &[u8], piece: usize) -> Self {
        let mut session = Session::new(Arc::new(settings(tls)), IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut pieces = said.chunks(piece);
        let (mut outcome, mut body) = (Self::default(), Vec::new());
        loop {
            match session.next_step() {
                Step::Append(octets) => body.extend_from_slice(&octets),
                Step::AskMessage(envelope) => {
                    outcome.messages.push(Message::of(*envelope, &mut body));
                    session.answer_message(reply::MESSAGE_ACCEPTED);
                }
                Step::AskRecipient(path) => {
                    session.answer_recipient(answer(&path));
                    outcome.recipients.push(path);
                }
                Step::AskTrace(unserved) => {
                    assert!(!unserved.recipients.is_empty() && unserved.reply.code >= 400);
                    outcome.traces.push(unserved.recipients.len());
                    session.answer_trace(&unserved.reply);
                }
                Step::Close(reason) => {
                    outcome.closed = Some(reason);
                    return outcome;
                }
                Step::DropBody => body.clear(),
                Step::Pause(_) => {}
                Step::Receive => match pieces.next() {
                    Some(piece) => session.receive(piece),
                    None => return outcome,
                },
                Step::Send(octets) => outcome.said.extend_from_slice(&octets),
                Step::StartBody => body.clear(),
                Step::StartTls => session.tls_started("TLSv1.3 TLS13_AES_128_GCM_SHA256".to_owned()),
            }
        }
    }

    /// What is true of any dialogue.
    fn check(&self) {
        let said = String::from_utf8_lossy(&self.said);
        for line in said.split_inclusive('\n') {
            check_line(line.strip_suffix("\r\n").unwrap_or("\n"));
            assert!(line.len() <= 512, "{line}");
            let (code, behind) = line.split_at(3);
            assert!(code.parse::<u16>().is_ok_and(|code| (200..600).contains(&code)), "{line}");
            assert!(behind.starts_with([' ', '-']), "{line}");
        }
        let accepted = said.matches("250 2.0.0 Message accepted").count();
        let whole = self.messages.iter().filter(|message| message.defect.is_none());
        assert_eq!(accepted, whole.clone().count(), "a 250 repeats the handler's");
        for message in whole {
            let octets = message.body.as_ref().map_or(0, Vec::len);
            assert!(octets > 0 && octets as u64 <= MAX_MESSAGE_OCTETS, "{message:?}");
            assert!((1..=MAX_RECIPIENTS).contains(&message.recipients.len()), "{message:?}");
        }
    }
}

impl Message {
    fn of(envelope: Envelope, body: &mut Vec<u8>) -> Self {
        let body = std::mem::take(body);
        Self {
            sender: envelope.reverse_path,
            recipients: envelope.recipients.into_iter().map(|recipient| recipient.path).collect(),
            defect: envelope.defect,
            body: envelope.defect.is_none().then_some(body),
        }
    }
}

/// Addresses that begin with `u` are unknown, with `d` the store is away, with `x` the session is to end.
fn answer(path: &ForwardPath) -> RecipientAnswer {
    match path {
        ForwardPath::Address(address) => match address.as_str().chars().next() {
            Some('u') => RecipientAnswer::Refused(reply::UNKNOWN_ADDRESS),
            Some('d') => RecipientAnswer::Refused(reply::STORE_UNAVAILABLE),
            Some('x') => RecipientAnswer::Refused(reply::TOO_MANY_ERRORS),
            _ => RecipientAnswer::Accepted(Mailbox::Postmaster),
        },
        ForwardPath::Postmaster => RecipientAnswer::Accepted(Mailbox::Postmaster),
    }
}

/// Small limits, so that an input of a few hundred octets reaches them.
fn settings(tls: TlsPolicy) -> Settings {
    Settings {
        hostname: HOST.to_owned(),
        max_message_bytes: MAX_MESSAGE_OCTETS,
        max_recipients: MAX_RECIPIENTS,
        command_timeout: Duration::from_secs(300),
        data_timeout: Duration::from_secs(180),
        error_pause: Duration::from_secs(1),
        stressed_timeout: Duration::from_secs(30),
        tls,
    }
}

fn envelope(helo: &str, sender: &str, recipient: &str) -> Envelope {
    let recipient = EmailAddress::parse(recipient).map_or(ForwardPath::Postmaster, ForwardPath::Address);
    Envelope {
        client: Client {
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            helo: helo.to_owned(),
            is_esmtp: true,
            tls: Some("TLSv1.3".to_owned()),
        },
        reverse_path: EmailAddress::parse(sender),
        recipients: vec![Recipient { path: recipient, mailbox: Mailbox::Postmaster }],
        smtputf8: false,
        requiretls: false,
        defect: None,
        received_octets: 0,
    }
}

fn verdict(domain: &str, selector: &str, why: &str) -> Verdict {
    let spf = Spf { result: AuthResult::Fail, domain: Some(domain.to_owned()) };
    Verdict {
        spf: spf.clone(),
        spf_helo: spf,
        dkim: vec![Dkim {
            domain: domain.to_owned(),
            selector: selector.to_owned(),
            result: AuthResult::Fail,
            why: Some(why.to_owned()),
            signed_fields: vec![selector.to_owned()],
        }],
        arc: auth::Arc {
            result: AuthResult::Pass,
            last_sealer: Some(domain.to_owned()),
            attests_dmarc_pass: false,
        },
        client_name: Some(selector.to_owned()),
        ..Verdict::unchecked()
    }
}

/// An address that was read holds nothing that would break a line, a field or a log.
fn check_address(address: &EmailAddress) {
    let text = address.as_str();
    assert!(!text.chars().any(char::is_control), "{text:?}");
    assert!(text.rsplit_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty()));
}

/// One line of printable ASCII.
fn check_line(line: &str) {
    assert!(line.bytes().all(|octet| octet == b' ' || octet.is_ascii_graphic()), "{line:?}");
}

const HOST: &str = "mx.example.test";
const MAX_MESSAGE_OCTETS: u64 = 300;
const MAX_RECIPIENTS: usize = 5;
