//! Command lines out of a stream of octets (RFC 5321 section 2.3.8): only CRLF ends a line.
//!
//! Promises that a bare CR or LF stays inside its line (the command parser refuses it), that a line over
//! [`MAX_LINE_OCTETS`] is refused once, when its CRLF comes, and takes no memory until then but for its verb, and that
//! no octet is searched twice, however the stream is cut.

use bytes::{Buf, Bytes, BytesMut};

/// The longest command line, CRLF included. RFC 5321 section 4.5.3.1.4 asks for 512 and more for extensions.
pub const MAX_LINE_OCTETS: usize = 2048;

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A line without its CRLF.
    Complete(Bytes),
    /// A line that was over the limit; nothing of it is kept but the first octets, which say what it was to be.
    TooLong([u8; VERB_OCTETS]),
}

/// Where the search for the next CRLF stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineReader {
    searched: usize,
    skipping: Skipping,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Skipping {
    #[default]
    No,
    TooLong([u8; VERB_OCTETS]),
}

impl LineReader {
    /// Takes the next line from the front of `input`; none while its CRLF has not come. Whoever takes octets
    /// from `input` in between must only do so after a line.
    pub fn next_line(&mut self, input: &mut BytesMut) -> Option<Line> {
        match self.find_end(input) {
            Some(end) => {
                let mut line = input.split_to(end);
                line.truncate(end.saturating_sub(2));
                let read = match self.skipping {
                    Skipping::TooLong(verb) => Line::TooLong(verb),
                    Skipping::No if end > MAX_LINE_OCTETS => Line::TooLong(verb_of(&line)),
                    Skipping::No => Line::Complete(line.freeze()),
                };
                *self = Self::default();
                Some(read)
            }
            None => {
                self.searched = input.len();
                match self.skipping {
                    Skipping::TooLong(verb) => self.skip(input, verb),
                    Skipping::No if input.len() >= MAX_LINE_OCTETS => self.skip(input, verb_of(input)),
                    Skipping::No => {}
                }
                None
            }
        }
    }

    /// Whether `input` begins a line, and with this octet.
    #[must_use]
    pub fn is_at_line_start_with(&self, input: &[u8], octet: u8) -> bool {
        self.skipping == Skipping::No && input.first() == Some(&octet)
    }

    /// One past the first CRLF, if there is one.
    fn find_end(&self, input: &[u8]) -> Option<usize> {
        let unsearched = input.get(self.searched..)?;
        memchr::memchr_iter(b'\n', unsearched)
            .map(|at| self.searched + at)
            .find(|&lf| lf.checked_sub(1).and_then(|before| input.get(before)) == Some(&b'\r'))
            .map(|lf| lf + 1)
    }

    /// Drops all but a CR that may belong to the CRLF.
    fn skip(&mut self, input: &mut BytesMut, verb: [u8; VERB_OCTETS]) {
        let kept = usize::from(input.last() == Some(&b'\r'));
        input.advance(input.len() - kept);
        *self = Self { searched: kept, skipping: Skipping::TooLong(verb) };
    }
}

fn verb_of(line: &[u8]) -> [u8; VERB_OCTETS] {
    line.first_chunk().copied().unwrap_or_default()
}

/// The commands that matter here, BDAT and RCPT, are as long.
const VERB_OCTETS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds pieces, returns every line and the largest buffer on the way.
    fn read(pieces: &[&[u8]]) -> (Vec<Line>, usize) {
        let (mut reader, mut input, mut lines, mut peak) =
            (LineReader::default(), BytesMut::new(), Vec::new(), 0);
        for piece in pieces {
            input.extend_from_slice(piece);
            while let Some(line) = reader.next_line(&mut input) {
                lines.push(line);
            }
            peak = peak.max(input.len());
        }
        (lines, peak)
    }

    fn complete(text: &[u8]) -> Line {
        Line::Complete(Bytes::copy_from_slice(text))
    }

    #[test]
    fn only_crlf_ends_a_line() {
        let expected = vec![complete(b"a\nb\rc"), complete(b""), complete(b"\r")];
        assert_eq!(read(&[b"a\nb\rc\r\n\r\n\r\r\nrest"]).0, expected);
    }

    #[test]
    fn every_cut_reads_the_same_lines() {
        let stream = b"EHLO a\r\n\r\r\n\n\r\nx\n\r\n";
        let (whole, _) = read(&[stream]);
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(read(&single).0, whole);
        for cut in 0..stream.len() {
            let (head, tail) = stream.split_at(cut);
            assert_eq!(read(&[head, tail]).0, whole, "cut at {cut}");
        }
    }

    #[test]
    fn a_line_of_2048_octets_is_taken_and_one_more_is_not() {
        for (octets, is_taken) in [(MAX_LINE_OCTETS, true), (MAX_LINE_OCTETS + 1, false)] {
            let mut line = vec![b'x'; octets - 2];
            line.extend_from_slice(b"\r\n");
            let (whole, _) = read(&[&line]);
            assert_eq!(matches!(whole.as_slice(), [Line::Complete(_)]), is_taken, "{octets}");
            let single: Vec<&[u8]> = line.chunks(1).collect();
            assert_eq!(read(&single).0, whole, "{octets}");
        }
    }

    #[test]
    fn a_line_over_its_limit_stays_refused_until_its_crlf() {
        let block = vec![b'x'; 5000];
        let (lines, peak) = read(&[b"BDAT ", &block, b"QUIT\nQUIT\r", b"x\r", b"\nNOOP\r\n"]);
        assert_eq!(lines, vec![Line::TooLong(*b"BDAT"), complete(b"NOOP")]);
        assert!(peak <= MAX_LINE_OCTETS + 5, "{peak}");
        let whole = [b"rcpt ", &block[..], b"\r\nNOOP\r\n"].concat();
        assert_eq!(read(&[&whole]).0, vec![Line::TooLong(*b"rcpt"), complete(b"NOOP")]);
    }

    #[test]
    fn a_stream_without_line_ends_takes_no_memory() {
        let block = vec![b'x'; 8192];
        let pieces: Vec<&[u8]> = (0..1000).map(|_| block.as_slice()).collect();
        assert!(read(&pieces).1 <= MAX_LINE_OCTETS);
    }
}
