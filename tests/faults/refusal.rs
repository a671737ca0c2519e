//! A statement that PostgreSQL refuses: what its client sends is changed on the way so that the server itself answers
//! with an error, as it does to a full disk or a statement that it cannot make sense of. The connection goes on.
//!
//! The protocol: PostgreSQL's documentation, "Message Formats".

/// Where messages begin in the pieces that one client sends.
#[derive(Default)]
pub(crate) struct Frames {
    /// The first message, which tells who it is, has no type.
    is_started: bool,
    /// Of the message that is under way.
    left: usize,
    header: Vec<u8>,
}

impl Frames {
    /// Whether a message begins with this piece, which is the next one.
    pub(crate) fn begin_with(&mut self, mut piece: &[u8]) -> bool {
        let begins = self.is_started && self.left == 0 && self.header.is_empty();
        while !piece.is_empty() {
            let taken = self.left.min(piece.len());
            (self.left, piece) = (self.left - taken, &piece[taken..]);
            let wanted = if self.is_started { 5 } else { 4 };
            let taken = (wanted - self.header.len()).min(piece.len());
            self.header.extend(&piece[..taken]);
            piece = &piece[taken..];
            if self.header.len() == wanted {
                self.left = length(&self.header[wanted - 4..]).saturating_sub(4);
                self.header.clear();
                // The question for TLS is followed by another first message.
                self.is_started |= self.left != SSL_REQUEST;
            }
        }
        begins
    }
}

/// In the place of a piece with whose beginning a message begins: the server refuses its first statement. None if there
/// is none that it could refuse.
pub(crate) fn refused(piece: &[u8]) -> Option<Vec<u8>> {
    match piece.first()? {
        // Parse, Bind, Describe, Execute: the server skips everything behind an error until Sync.
        b'P' | b'B' | b'D' | b'E' => {
            Some([&message(b'B', b"\0no_such_statement\0\0\0\0\0\0\0"), piece].concat())
        }
        // Query: begins and ends transactions. No server refuses to roll back.
        b'Q' => {
            let end = 1 + length(piece.get(1..5)?);
            let text = piece.get(5..end)?;
            let is_refused = !text.starts_with(b"ROLLBACK");
            is_refused.then(|| [&message(b'Q', NO_SPACE), &piece[end..]].concat())
        }
        _ => None,
    }
}

fn message(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 4).unwrap().to_be_bytes();
    [&[kind], &length[..], content].concat()
}

fn length(octets: &[u8]) -> usize {
    octets.iter().fold(0, |length, octet| length << 8 | usize::from(*octet))
}

/// Octets behind its length.
const SSL_REQUEST: usize = 4;
/// The transaction is over and nothing of it is kept: as when its commit finds no space.
const NO_SPACE: &[u8] =
    b"ROLLBACK; DO $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = 'disk_full'; END $$\0";
