//! Message content: the exact end of DATA (RFC 5321 section 4.1.1.4) and counted BDAT chunks (RFC 3030).
//!
//! Promises that only CRLF . CRLF ends DATA, the reader standing after a CRLF at its start (so that `.` CRLF right
//! after 354 is an empty message), that the dots of section 4.5.2 are taken away, and that a bare CR or LF, or too
//! many octets, are noted while the reading goes on to the true end. Nothing is kept once the message is refused.

use bytes::{Buf, Bytes, BytesMut};

use crate::smtp::BodyDefect;

/// How many times the size limit is read before a client is taken for a flood (SMTP D6).
pub const FLOOD_FACTOR: u64 = 4;

/// The automaton of DATA.
#[derive(Clone, Debug)]
pub struct DataReader {
    state: State,
    newlines: Newlines,
    size_bytes: u64,
    max_bytes: u64,
    wire_left: u64,
}

/// How the reading stands once all input has been taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// CRLF . CRLF was read.
    Ended,
    /// Four times the limit was read and no end is in sight.
    Flooded,
    /// More is to come.
    More,
}

/// What the octets before this one were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// CR, not after a lone dot.
    Cr,
    /// A dot right after CRLF; it is not part of the message.
    Dot,
    /// A dot and CR right after CRLF.
    DotCr,
    /// CRLF . CRLF.
    Ended,
    /// CRLF, or nothing yet.
    LineStart,
    /// Anything else.
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newlines {
    Bare,
    Canonical,
}

impl DataReader {
    /// For a message of at most `max_bytes` octets, stuffed dots not counted.
    #[must_use]
    pub const fn new(max_bytes: u64) -> Self {
        Self {
            state: State::LineStart,
            newlines: Newlines::Canonical,
            size_bytes: 0,
            max_bytes,
            wire_left: max_bytes.saturating_mul(FLOOD_FACTOR),
        }
    }

    /// Takes what belongs to the message from the front of `input` and returns what is to be kept of it.
    pub fn read(&mut self, input: &mut BytesMut) -> Bytes {
        let available = u64::try_from(input.len()).unwrap_or(u64::MAX).min(self.wire_left);
        let mut rest = input.get(..usize::try_from(available).unwrap_or(usize::MAX)).unwrap_or_default();
        let before = rest.len();
        // Nothing is kept of a message that is refused.
        let mut kept = Vec::with_capacity(if self.defect().is_none() { before } else { 0 });
        while self.state != State::Ended {
            if self.state == State::Text {
                let run = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                let (text, tail) = rest.split_at_checked(run).unwrap_or_default();
                self.keep(text, &mut kept);
                rest = tail;
            }
            let Some((&octet, tail)) = rest.split_first() else { break };
            self.step(octet, &mut kept);
            rest = tail;
        }
        let taken = before - rest.len();
        self.wire_left -= u64::try_from(taken).unwrap_or(u64::MAX).min(self.wire_left);
        input.advance(taken);
        kept.into()
    }

    /// How it stands, when `unread` is what [`Self::read`] left.
    #[must_use]
    pub const fn progress(&self, unread: &[u8]) -> Progress {
        match self.state {
            State::Ended => Progress::Ended,
            State::Cr | State::Dot | State::DotCr | State::LineStart | State::Text => {
                if self.wire_left == 0 && !unread.is_empty() { Progress::Flooded } else { Progress::More }
            }
        }
    }

    /// Why the message is refused, if it is. A bare newline goes before the size, wherever they stood.
    #[must_use]
    pub const fn defect(&self) -> Option<BodyDefect> {
        match self.newlines {
            Newlines::Bare => Some(BodyDefect::BareNewline),
            Newlines::Canonical if self.size_bytes > self.max_bytes => Some(BodyDefect::TooLarge),
            Newlines::Canonical => None,
        }
    }

    /// The size of the message so far, in octets.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn step(&mut self, octet: u8, kept: &mut Vec<u8>) {
        self.state = match (self.state, octet) {
            (State::DotCr, b'\n') => {
                self.state = State::Ended;
                return;
            }
            (State::LineStart, b'.') => {
                self.state = State::Dot;
                return;
            }
            (State::Dot, b'\r') => {
                self.state = State::DotCr;
                return;
            }
            (State::Cr, b'\n') => State::LineStart,
            // A bare LF, wherever it stands, and whatever follows a CR and is no LF: never the end (SMTP 3.1).
            (State::Dot | State::LineStart | State::Text, b'\n') => self.bare(State::Text),
            (State::Cr | State::DotCr, b'\r') => self.bare(State::Cr),
            (State::Cr | State::DotCr, _) => self.bare(State::Text),
            (State::LineStart | State::Text, b'\r') => State::Cr,
            (State::Dot | State::LineStart | State::Text, _) => State::Text,
            (State::Ended, _) => State::Ended,
        };
        self.keep(&[octet], kept);
    }

    const fn bare(&mut self, next: State) -> State {
        self.newlines = Newlines::Bare;
        next
    }

    fn keep(&mut self, octets: &[u8], kept: &mut Vec<u8>) {
        self.size_bytes = self.size_bytes.saturating_add(u64::try_from(octets.len()).unwrap_or(u64::MAX));
        if self.defect().is_none() {
            kept.extend_from_slice(octets);
        }
    }
}

/// Which chunk of a message a BDAT command announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkPosition {
    /// `LAST`: the message is complete with it.
    Last,
    /// Others follow.
    More,
}

/// A chunk that is being read: octets are counted, nothing in them is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    remaining: u64,
    /// The size of the message with this chunk, in octets.
    pub total_bytes: u64,
    /// Whether the message ends with it.
    pub position: ChunkPosition,
}

impl Chunk {
    /// A chunk of `size_bytes` after `before_bytes` of the same message.
    #[must_use]
    pub const fn new(before_bytes: u64, size_bytes: u64, position: ChunkPosition) -> Self {
        Self { remaining: size_bytes, total_bytes: before_bytes.saturating_add(size_bytes), position }
    }

    /// Takes what belongs to the chunk from the front of `input`.
    pub fn read(&mut self, input: &mut BytesMut) -> Bytes {
        take_counted(&mut self.remaining, input)
    }

    /// Whether all of it has been read.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.remaining == 0
    }
}

/// Takes up to `remaining` octets from the front of `input`, counting down.
pub fn take_counted(remaining: &mut u64, input: &mut BytesMut) -> Bytes {
    let wanted = usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len());
    *remaining -= u64::try_from(wanted).unwrap_or(u64::MAX).min(*remaining);
    input.split_to(wanted).freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: u64 = 1 << 20;

    /// (ended, body kept, defect, what was left unread)
    type Read = (bool, Option<Vec<u8>>, Option<BodyDefect>, Vec<u8>);

    fn read(pieces: &[&[u8]]) -> Read {
        let (mut reader, mut input, mut body) = (DataReader::new(MAX), BytesMut::new(), Vec::new());
        for piece in pieces {
            input.extend_from_slice(piece);
            body.extend_from_slice(&reader.read(&mut input));
        }
        let defect = reader.defect();
        let ended = reader.progress(&input) == Progress::Ended;
        (ended, defect.is_none().then_some(body), defect, input.to_vec())
    }

    /// The rule said plainly, over the whole stream: the oracle of the property tests.
    fn read_plainly(stream: &[u8]) -> Read {
        let end = if stream.starts_with(b".\r\n") {
            Some(0)
        } else {
            stream.windows(5).position(|window| window == b"\r\n.\r\n").map(|at| at + 2)
        };
        let content = &stream[..end.unwrap_or(stream.len())];
        let is_bare = |(at, octet): (usize, &u8)| match octet {
            b'\n' => at.checked_sub(1).and_then(|before| content.get(before)) != Some(&b'\r'),
            b'\r' => content.get(at + 1).is_some_and(|next| *next != b'\n'),
            _ => false,
        };
        let defect = content.iter().enumerate().any(is_bare).then_some(BodyDefect::BareNewline);
        let mut body = Vec::new();
        for line in content.split_inclusive(|octet| *octet == b'\n') {
            body.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        let unread = end.map(|at| stream[at + 3..].to_vec()).unwrap_or_default();
        (end.is_some(), defect.is_none().then_some(body), defect, unread)
    }

    #[track_caller]
    fn check(stream: &[u8], body: Option<&[u8]>) {
        let (ended, kept, _, _) = read(&[stream]);
        assert!(ended);
        assert_eq!(kept.as_deref(), body);
    }

    #[test]
    fn d3_a_first_line_that_is_a_dot_ends_an_empty_message() {
        check(b".\r\n", Some(b""));
        assert_eq!(read(&[b".\r\nQUIT\r\n"]).3, b"QUIT\r\n");
    }

    #[test]
    fn d4_stuffed_dots_are_taken_away() {
        check(b"..x\r\n.y\r\n...\r\na.b\r\n.\r\n", Some(b".x\r\ny\r\n..\r\na.b\r\n"));
    }

    #[test]
    fn bare_newline_dot_does_not_end_the_message() {
        for forged in [
            &b"\n.\n"[..],
            b"\n.\r\n",
            b"\r\n.\n",
            b"\r.\r",
            b"\r.\r\n",
            b"\r\n.\r",
            b"\n.\r",
            b"\r\n.\r\r\n",
            b"\r\r\n.\r\r\n",
        ] {
            let stream = [b"hello", forged, b"x\r\n"].concat();
            let (ended, _, defect, _) = read(&[&stream]);
            assert!(!ended, "{forged:?}");
            assert_eq!(defect, Some(BodyDefect::BareNewline), "{forged:?}");
        }
    }

    #[test]
    fn a_message_of_the_limit_is_kept_and_one_octet_more_is_not() {
        for (size, defect) in [(100, None), (101, Some(BodyDefect::TooLarge))] {
            let mut input = BytesMut::from(&vec![b'x'; size - 2][..]);
            input.extend_from_slice(b"\r\n.\r\n");
            let mut reader = DataReader::new(100);
            reader.read(&mut input);
            assert_eq!((reader.progress(&input), reader.defect()), (Progress::Ended, defect), "{size}");
        }
    }

    #[test]
    fn d6_four_times_the_limit_is_read_and_then_no_more() {
        let mut reader = DataReader::new(10);
        let mut input = BytesMut::from(&[b'x'; 40][..]);
        reader.read(&mut input);
        assert_eq!(reader.progress(&input), Progress::More);
        input.extend_from_slice(b"x");
        reader.read(&mut input);
        assert_eq!(reader.progress(&input), Progress::Flooded);
    }

    #[test]
    fn d12_a_chunk_is_counted_and_not_looked_at() {
        let mut chunk = Chunk::new(7, 8, ChunkPosition::Last);
        let mut input = BytesMut::from(&b"a\r\n.\r\n\n\rQUIT\r\n"[..]);
        assert_eq!(chunk.read(&mut input), &b"a\r\n.\r\n\n\r"[..]);
        assert!(chunk.is_complete());
        assert_eq!((chunk.total_bytes, &input[..]), (15, &b"QUIT\r\n"[..]));
    }

    proptest! {
        #[test]
        fn any_stream_is_read_as_the_plain_rule_says_however_it_is_cut(
            stream in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'x'), Just(0)], 0..40),
            cuts in proptest::collection::vec(0_usize..40, 0..6),
        ) {
            let plain = read_plainly(&stream);
            let whole = read(&[&stream]);
            prop_assert_eq!(whole.0, plain.0);
            if plain.0 {
                prop_assert_eq!(&whole, &plain);
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
            prop_assert_eq!(&read(&pieces), &whole);
            let single: Vec<&[u8]> = stream.chunks(1).collect();
            prop_assert_eq!(&read(&single), &whole);
        }
    }
}
