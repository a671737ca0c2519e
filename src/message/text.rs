//! Text that several hold at once: the whole text of a message, and what of it is new. A mail of 30 MB is not to stand
//! in memory once for each of them.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A piece of a text; to clone it or to cut it copies nothing.
#[derive(Clone, Default)]
pub struct Text {
    whole: Arc<String>,
    /// On the borders of characters.
    piece: Range<usize>,
}

impl Text {
    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.whole.get(self.piece.clone()).unwrap_or_default()
    }

    /// A piece of this text; none where that would cut a character.
    pub(super) fn cut(&self, piece: Range<usize>) -> Option<Self> {
        let piece = self.piece.start + piece.start..self.piece.start + piece.end;
        let is_inside = piece.end <= self.piece.end && self.whole.get(piece.clone()).is_some();
        is_inside.then(|| Self { whole: Arc::clone(&self.whole), piece })
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self { piece: 0..text.len(), whole: Arc::new(text) }
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl serde::Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_cut_without_a_copy_and_never_through_a_character() {
        let whole = Text::from("Grüße\n");
        let piece = whole.cut(0..7).expect("a piece");
        assert_eq!((piece.as_str(), piece.as_ptr()), ("Grüße", whole.as_ptr()));
        assert_eq!(piece.cut(0..2).expect("a piece"), "Gr");
        assert!(whole.cut(0..3).is_none() && piece.cut(0..8).is_none());
    }
}
