//! Reads the dialogue files of `fixtures/smtp` (their README says how they are written).

use std::path::Path;

/// One dialogue file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    pub(crate) name: String,
    pub(crate) start: Start,
    pub(crate) only: Option<Security>,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) events: Vec<Event>,
    /// `M:` lines: from, to, flags and body of every message the handler was asked about.
    pub(crate) messages: Vec<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Start {
    Connect,
    Banner,
    #[default]
    Hello,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    Clear,
    Tls,
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Sent in one write, or octet by octet.
    Client(Vec<u8>),
    /// One line; a `*` at its end stands for anything.
    Server(String),
    /// The server closes.
    Closed,
    /// The client does the handshake.
    Handshake,
}

impl Script {
    pub(crate) fn read(path: &Path, security: Security) -> Self {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut script = Self { name, ..Self::default() };
        for line in text.lines() {
            script.add(line, security);
        }
        script
    }

    fn add(&mut self, line: &str, security: Security) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "" | "#" => {}
            "start" => self.start = if rest == "connect" { Start::Connect } else { Start::Banner },
            "only" => self.only = Some(if rest == "tls" { Security::Tls } else { Security::Clear }),
            "set" => {
                let (key, value) = rest.split_once(' ').unwrap();
                self.settings.push((key.to_owned(), value.to_owned()));
            }
            "C:" => self.client(&[&unescape(rest)[..], b"\r\n"].concat()),
            "C-" => self.client(&unescape(rest)),
            "S:" => self.events.push(Event::Server(rest.to_owned())),
            "S-clear:" if security == Security::Clear => self.events.push(Event::Server(rest.to_owned())),
            "S-tls:" if security == Security::Tls => self.events.push(Event::Server(rest.to_owned())),
            "S-clear:" | "S-tls:" => {}
            times if times.starts_with("S*") => {
                let count = times[2..].trim_end_matches(':').parse().unwrap();
                let line = Event::Server(rest.to_owned());
                self.events.extend(std::iter::repeat_n(line, count));
            }
            "CLOSED" => self.events.push(Event::Closed),
            "TLS" => self.events.push(Event::Handshake),
            "M:" => self.messages.push(unescape(rest)),
            other => panic!("{}: no such line: {other}", self.name),
        }
    }

    fn client(&mut self, bytes: &[u8]) {
        match self.events.last_mut() {
            Some(Event::Client(group)) => group.extend_from_slice(bytes),
            _ => self.events.push(Event::Client(bytes.to_vec())),
        }
    }

    pub(crate) fn setting<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        let found = self.settings.iter().find(|(name, _)| name == key)?;
        found.1.parse().ok()
    }
}

/// `\r \n \t \0 \\ \xNN`, and `\{12*ab}` for repetition.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let length = match escape.as_bytes()[0] {
            b'r' => push(&mut bytes, b"\r"),
            b'n' => push(&mut bytes, b"\n"),
            b't' => push(&mut bytes, b"\t"),
            b'0' => push(&mut bytes, b"\0"),
            b'\\' => push(&mut bytes, b"\\"),
            b'x' => push(&mut bytes, &[u8::from_str_radix(&escape[1..3], 16).unwrap()]) + 2,
            b'{' => {
                let end = escape.find('}').unwrap();
                let (count, what) = escape[1..end].split_once('*').unwrap();
                push(&mut bytes, &unescape(what).repeat(count.parse().unwrap()));
                end + 1
            }
            other => panic!("no such escape: {}", other.escape_ascii()),
        };
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

fn push(bytes: &mut Vec<u8>, what: &[u8]) -> usize {
    bytes.extend_from_slice(what);
    1
}
