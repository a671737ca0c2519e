//! One command line to one [`Command`] (RFC 5321 section 4.1, RFC 1870, 3030, 3207, 6152, 6531, 8689).
//!
//! Promises that nothing is dropped or repaired on the way (control characters, bare CR or LF, doubled or unknown
//! parameters are refused), and that a refusal which does not depend on the session is already the reply.
//! Whether a command is in order now is the session's business.

use crate::address::EmailAddress;
use crate::smtp::data::ChunkPosition;
use crate::smtp::{ForwardPath, Reply, path, reply};

/// What the client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// `BDAT size [LAST]`: so many octets follow at once.
    Bdat(u64, ChunkPosition),
    /// `DATA`
    Data,
    /// `EHLO` and its argument.
    Ehlo(String),
    /// `HELO` and its argument.
    Helo(String),
    /// `MAIL FROM:`
    Mail(Mail),
    /// Another protocol's first words.
    OtherProtocol,
    /// `QUIT`
    Quit,
    /// `RCPT TO:`
    Rcpt(ForwardPath),
    /// `RCPT` that cannot be read, or asks for what is not offered: a recipient that is refused.
    RefusedRecipient(Reply),
    /// Answered alike whatever the session is doing: HELP, NOOP, VRFY, and all that is not understood or never done.
    Replied(Reply),
    /// `RSET`
    Rset,
    /// `STARTTLS`
    StartTls,
    /// `BDAT` that cannot be read: what follows cannot be told from commands.
    UncountedChunk,
}

/// The argument of MAIL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// The reverse-path; none for `<>`.
    pub reverse_path: Option<EmailAddress>,
    /// What stood behind it.
    pub parameters: Parameters,
}

/// The parameters of MAIL, each given at most once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    /// `SIZE=` in octets (RFC 1870).
    pub size_bytes: Option<u64>,
    /// `BODY=` (RFC 6152); both kinds are treated alike.
    pub body: Option<BodyType>,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// `REQUIRETLS` (RFC 8689).
    pub requiretls: bool,
}

/// RFC 6152 section 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyType {
    /// `8BITMIME`
    EightBitMime,
    /// `7BIT`
    SevenBit,
}

impl Command {
    /// Reads a line without its CRLF.
    #[must_use]
    pub fn parse(line: &[u8]) -> Self {
        // Row C10: a line that a laxer server would have run two commands from.
        if line.contains(&b'\n') {
            return Self::unread(line, reply::BARE_LF_IN_COMMAND);
        }
        if line.iter().any(u8::is_ascii_control) {
            return Self::unread(line, reply::UNPRINTABLE_COMMAND);
        }
        let Ok(text) = std::str::from_utf8(line) else {
            return Self::unread(line, reply::UNPRINTABLE_COMMAND);
        };
        let text = text.trim_end_matches(' ');
        let (verb, argument) = text.split_once(' ').unwrap_or((text, ""));
        let verb = verb.to_ascii_uppercase();
        if !argument.is_ascii() && !matches!(verb.as_str(), "MAIL" | "RCPT" | "VRFY") {
            return Self::unread(line, reply::UNPRINTABLE_COMMAND);
        }
        Self::from_parts(&verb, argument)
    }

    /// A line that is refused without being read; `start` is how it begins. Row D11: behind BDAT come octets that
    /// nobody can count now.
    #[must_use]
    pub fn unread(start: &[u8], refusal: Reply) -> Self {
        let begins_with = |verb: &[u8; 4]| start.get(..4).is_some_and(|head| head.eq_ignore_ascii_case(verb));
        if begins_with(b"BDAT") {
            Self::UncountedChunk
        } else if begins_with(b"RCPT") {
            Self::RefusedRecipient(refusal)
        } else {
            Self::Replied(refusal)
        }
    }

    fn from_parts(verb: &str, argument: &str) -> Self {
        match verb {
            "AUTH" | "ETRN" | "EXPN" => Self::Replied(reply::NOT_IMPLEMENTED),
            "BDAT" => chunk(argument),
            "DATA" => alone(argument, Self::Data),
            "EHLO" => hello(argument, Self::Ehlo),
            "HELO" => hello(argument, Self::Helo),
            "HELP" => Self::Replied(reply::HELP_ANSWER),
            "MAIL" => mail(argument),
            "NOOP" => Self::Replied(reply::NOOP_OK),
            "QUIT" => alone(argument, Self::Quit),
            "RCPT" => recipient(argument),
            "RSET" => alone(argument, Self::Rset),
            "STARTTLS" => alone(argument, Self::StartTls),
            "VRFY" => verify(argument),
            other => unknown(other, argument),
        }
    }
}

/// Commands that take no argument (RFC 5321 section 4.3.2: 501 if there is one).
fn alone(argument: &str, command: Command) -> Command {
    if argument.is_empty() { command } else { Command::Replied(reply::BAD_ARGUMENT) }
}

/// EHLO and HELO: one word. Its truth is never asked for (row A8), but what no host name or address literal holds,
/// and what would have a meaning in the header fields that repeat it, is refused.
fn hello(argument: &str, command: fn(String) -> Command) -> Command {
    let argument = argument.trim_start_matches(' ');
    let is_harmless =
        argument.bytes().all(|octet| octet.is_ascii_graphic() && !b"\"(),;<>\\".contains(&octet));
    if argument.is_empty() || argument.len() > MAX_HELLO_OCTETS || !is_harmless {
        return Command::Replied(reply::BAD_ARGUMENT);
    }
    command(argument.to_owned())
}

fn chunk(argument: &str) -> Command {
    let mut words = argument.split(' ').filter(|word| !word.is_empty());
    let size = words.next().filter(|word| word.bytes().all(|octet| octet.is_ascii_digit()));
    let Some(Ok(size_bytes)) = size.map(str::parse) else { return Command::UncountedChunk };
    match (words.next(), words.next()) {
        (None, None) => Command::Bdat(size_bytes, ChunkPosition::More),
        (Some(last), None) if last.eq_ignore_ascii_case("LAST") => {
            Command::Bdat(size_bytes, ChunkPosition::Last)
        }
        (Some(_), _) | (None, Some(_)) => Command::UncountedChunk,
    }
}

fn mail(argument: &str) -> Command {
    let Some(after) = after_keyword(argument, "FROM:") else {
        return Command::Replied(reply::BAD_COMMAND_SYNTAX);
    };
    let Some((reverse_path, rest)) = path::reverse_path(after) else {
        return Command::Replied(reply::BAD_REVERSE_PATH);
    };
    match parameters(rest) {
        Ok(parameters) => Command::Mail(Mail { reverse_path, parameters }),
        Err(refusal) => Command::Replied(refusal),
    }
}

fn recipient(argument: &str) -> Command {
    let Some(after) = after_keyword(argument, "TO:") else {
        return Command::RefusedRecipient(reply::BAD_COMMAND_SYNTAX);
    };
    match path::forward_path(after) {
        Some((path, "")) => Command::Rcpt(path),
        // DSN (NOTIFY, ORCPT) is not offered, and nothing else belongs to RCPT.
        Some((_, rest)) if rest.starts_with(' ') => Command::RefusedRecipient(reply::UNKNOWN_PARAMETER),
        Some(_) => Command::RefusedRecipient(reply::BAD_COMMAND_SYNTAX),
        None => Command::RefusedRecipient(reply::BAD_FORWARD_PATH),
    }
}

/// What stands behind `FROM:` or `TO:`; spaces after the colon are what many senders write (row C5).
fn after_keyword<'a>(argument: &'a str, keyword: &str) -> Option<&'a str> {
    let argument = argument.trim_start_matches(' ');
    let (head, rest) = argument.split_at_checked(keyword.len())?;
    head.eq_ignore_ascii_case(keyword).then(|| rest.trim_start_matches(' '))
}

fn parameters(rest: &str) -> Result<Parameters, Reply> {
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err(reply::BAD_COMMAND_SYNTAX);
    }
    if !rest.is_ascii() {
        return Err(reply::UNPRINTABLE_COMMAND);
    }
    let mut found = Parameters::default();
    for word in rest.split(' ').filter(|word| !word.is_empty()) {
        let (keyword, value) = match word.split_once('=') {
            Some((keyword, value)) => (keyword, Some(value)),
            None => (word, None),
        };
        found.add(&keyword.to_ascii_uppercase(), value)?;
    }
    Ok(found)
}

impl Parameters {
    fn add(&mut self, keyword: &str, value: Option<&str>) -> Result<(), Reply> {
        let is_repeated = match keyword {
            "BODY" => self.body.replace(body_type(value)?).is_some(),
            "REQUIRETLS" => std::mem::replace(&mut self.requiretls, no_value(value)?),
            "SIZE" => self.size_bytes.replace(size(value)?).is_some(),
            "SMTPUTF8" => std::mem::replace(&mut self.smtputf8, no_value(value)?),
            _ => return Err(reply::UNKNOWN_PARAMETER),
        };
        if is_repeated { Err(reply::BAD_ARGUMENT) } else { Ok(()) }
    }
}

fn body_type(value: Option<&str>) -> Result<BodyType, Reply> {
    match value.map(str::to_ascii_uppercase).as_deref() {
        Some("7BIT") => Ok(BodyType::SevenBit),
        Some("8BITMIME") => Ok(BodyType::EightBitMime),
        // RFC 3030 section 3: known, and not offered.
        Some("BINARYMIME") => Err(reply::UNKNOWN_PARAMETER),
        Some(_) | None => Err(reply::BAD_ARGUMENT),
    }
}

fn no_value(value: Option<&str>) -> Result<bool, Reply> {
    if value.is_none() { Ok(true) } else { Err(reply::BAD_ARGUMENT) }
}

/// RFC 1870 section 4: up to 20 digits. What does not fit is larger than any limit.
fn size(value: Option<&str>) -> Result<u64, Reply> {
    let digits = value.unwrap_or_default();
    let is_number =
        (1..=MAX_SIZE_DIGITS).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
    if is_number { Ok(digits.parse().unwrap_or(u64::MAX)) } else { Err(reply::BAD_ARGUMENT) }
}

/// RFC 6531 section 3.7.4.2: a name in UTF-8 needs the parameter.
fn verify(argument: &str) -> Command {
    let argument = argument.trim_start_matches(' ');
    let announces_utf8 = argument.to_ascii_uppercase().ends_with(" SMTPUTF8");
    match argument {
        "" => Command::Replied(reply::BAD_ARGUMENT),
        name if !name.is_ascii() && !announces_utf8 => Command::Replied(reply::UNPRINTABLE_COMMAND),
        _ => Command::Replied(reply::VRFY_ANSWER),
    }
}

/// Row S3: a browser, a proxy or another server that is made to talk to us must not get to its second line.
fn unknown(verb: &str, argument: &str) -> Command {
    let is_http = verb.starts_with("HTTP/") || argument.contains(" HTTP/") || argument.starts_with("HTTP/");
    if is_http || OTHER_PROTOCOLS.contains(&verb) || verb.starts_with("SSH-") || is_redis(verb) {
        return Command::OtherProtocol;
    }
    Command::Replied(reply::UNKNOWN_COMMAND)
}

/// Redis in its own protocol: a type, and a length, a number or a word. No command of SMTP begins so.
fn is_redis(verb: &str) -> bool {
    match verb.as_bytes() {
        [b'$' | b'*' | b':', rest @ ..] => {
            let digits = rest.strip_prefix(b"-").unwrap_or(rest);
            !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
        }
        [b'+' | b'-', first, ..] => first.is_ascii_alphabetic(),
        _ => false,
    }
}

/// HTTP, and what is said to Redis in plain lines.
const OTHER_PROTOCOLS: [&str; 17] = [
    "CONFIG",
    "CONNECT",
    "DELETE",
    "EVAL",
    "FLUSHALL",
    "GET",
    "HEAD",
    "HOST:",
    "INFO",
    "OPTIONS",
    "PATCH",
    "PING",
    "POST",
    "PRI",
    "PUT",
    "REPLICAOF",
    "SLAVEOF",
];
/// RFC 5321 section 4.5.3.1.2.
const MAX_HELLO_OCTETS: usize = 255;
const MAX_SIZE_DIGITS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(line: &[u8], expected: &Reply) {
        let parsed = Command::parse(line);
        assert_eq!(parsed, Command::Replied(expected.clone()), "{}", line.escape_ascii());
    }

    #[track_caller]
    fn mail(line: &str) -> Mail {
        let Command::Mail(mail) = Command::parse(line.as_bytes()) else { panic!("{line}") };
        mail
    }

    #[test]
    fn a10_verbs_in_any_case_and_trailing_spaces_are_read() {
        assert_eq!(Command::parse(b"eHlO mail.example  "), Command::Ehlo("mail.example".to_owned()));
        assert_eq!(Command::parse(b"quit   "), Command::Quit);
        assert_eq!(Command::parse(b"mail from:<> size=10"), Command::parse(b"MAIL FROM:<> SIZE=10"));
    }

    #[test]
    fn h18_nothing_is_dropped_from_a_command() {
        refused(b"DA\rTA", &reply::UNPRINTABLE_COMMAND);
        refused(b"EHLO a\rb", &reply::UNPRINTABLE_COMMAND);
        let recipient = Command::RefusedRecipient(reply::UNPRINTABLE_COMMAND);
        assert_eq!(Command::parse(b"RCPT TO:<a\rb@c.test>"), recipient);
        refused(b"EHLO a\0b", &reply::UNPRINTABLE_COMMAND);
        refused(b"NOOP\nQUIT", &reply::BARE_LF_IN_COMMAND);
        refused(b"EHLO b\xfccher", &reply::UNPRINTABLE_COMMAND);
        refused("EHLO bücher.test".as_bytes(), &reply::UNPRINTABLE_COMMAND);
        refused(b" QUIT", &reply::UNKNOWN_COMMAND);
    }

    #[test]
    fn h18_an_argument_where_none_belongs_is_refused() {
        for verb in ["DATA", "QUIT", "RSET", "STARTTLS"] {
            refused(format!("{verb} foo").as_bytes(), &reply::BAD_ARGUMENT);
        }
    }

    #[test]
    fn a8_any_plain_word_is_a_hello_but_nothing_that_means_something_in_a_header() {
        for word in ["[192.0.2.1]", "[IPv6:2001:db8::1]", "bb5b0be39583", "under_score", "a"] {
            assert_eq!(Command::parse(format!("EHLO {word}").as_bytes()), Command::Ehlo(word.to_owned()));
        }
        for word in ["", "a b", "a(b.test", "a;dmarc=pass", "\"a\"", "<a>", &"x".repeat(256)] {
            refused(format!("EHLO {word}").as_bytes(), &reply::BAD_ARGUMENT);
        }
        assert!(matches!(Command::parse(format!("EHLO {}", "x".repeat(255)).as_bytes()), Command::Ehlo(_)));
    }

    #[test]
    fn c13_c14_parameters_are_read_once_and_only_the_offered_ones() {
        let read = mail("MAIL FROM: <a@b.test> SIZE=12 BODY=8bitmime SMTPUTF8 REQUIRETLS").parameters;
        let expected = Parameters {
            size_bytes: Some(12),
            body: Some(BodyType::EightBitMime),
            smtputf8: true,
            requiretls: true,
        };
        assert_eq!(read, expected);
        assert_eq!(mail("MAIL FROM:<> SIZE=99999999999999999999").parameters.size_bytes, Some(u64::MAX));
        for bad in ["SIZE=abc", "SIZE=", "SIZE", "SIZE=1 SIZE=1", "SIZE=100000000000000000000", "SIZE=-1"] {
            refused(format!("MAIL FROM:<> {bad}").as_bytes(), &reply::BAD_ARGUMENT);
        }
        for bad in ["SMTPUTF8=x", "SMTPUTF8 SMTPUTF8", "REQUIRETLS=1", "BODY=9BIT", "BODY=7BIT BODY=7BIT"] {
            refused(format!("MAIL FROM:<> {bad}").as_bytes(), &reply::BAD_ARGUMENT);
        }
        for unknown in ["BODY=BINARYMIME", "RET=FULL", "ENVID=x", "AUTH=<>", "X"] {
            refused(format!("MAIL FROM:<> {unknown}").as_bytes(), &reply::UNKNOWN_PARAMETER);
        }
        let recipient = Command::RefusedRecipient(reply::UNKNOWN_PARAMETER);
        assert_eq!(Command::parse(b"RCPT TO:<a@b.test> NOTIFY=NEVER"), recipient);
        refused(b"MAIL FROM:<>SIZE=1", &reply::BAD_COMMAND_SYNTAX);
    }

    #[test]
    fn d11_a_chunk_without_a_readable_size_is_told_apart() {
        assert_eq!(Command::parse(b"BDAT 10"), Command::Bdat(10, ChunkPosition::More));
        assert_eq!(Command::parse(b"bdat 0 last"), Command::Bdat(0, ChunkPosition::Last));
        for bad in ["", "-1", "+1", "x", "99999999999999999999", "5 LASTX", "5 LAST x", "0x5"] {
            assert_eq!(Command::parse(format!("BDAT {bad}").as_bytes()), Command::UncountedChunk, "{bad}");
        }
        assert_eq!(
            Command::parse(b"BDAT 18446744073709551615"),
            Command::Bdat(u64::MAX, ChunkPosition::More)
        );
        for bad in [&b"BDAT 5\0"[..], b"bdat 5\xff", b"Bdat\t5", b"BDAT 5\nLAST", "BDAT ü".as_bytes()] {
            assert_eq!(Command::parse(bad), Command::UncountedChunk, "{}", bad.escape_ascii());
        }
        refused(b"BDATA 5", &reply::UNKNOWN_COMMAND);
    }

    #[test]
    fn s3_other_protocols_are_told_by_their_first_line() {
        let http =
            ["GET / HTTP/1.1", "POST /x HTTP/1.0", "Host: mx.test", "BREW /pot HTTP/1.1", "HTTP/1.1 200"];
        let redis = ["*1", "*-1", "$4", ":1000", "+PONG", "-ERR unknown command", "PING", "slaveof no one"];
        for line in [&http[..], &redis, &["SSH-2.0-x"]].concat() {
            assert_eq!(Command::parse(line.as_bytes()), Command::OtherProtocol, "{line}");
        }
        for line in ["XFOO", "*", "*a", "$", "+", "-1", "*1a", "PINGS"] {
            refused(line.as_bytes(), &reply::UNKNOWN_COMMAND);
        }
    }
}
