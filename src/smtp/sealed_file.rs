//! A temporary file without a name whose octets nobody can read but this process: each block is sealed with AES-256-GCM
//! under a key that lives in memory alone and dies with the file.
//!
//! Promises that a disk, a snapshot or a swapped page cache shows nothing of a mail that may yet be refused, and that
//! what is read back is what was written, or an error. Everything here waits for the disk: not for the reactor.

use std::fs::File;
use std::io::{self, Read, Seek, Write};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// The file.
pub(super) struct SealedFile {
    file: File,
    key: LessSafeKey,
    /// The sealed length of each block, in order. Its place in the list is its nonce.
    blocks: Vec<usize>,
    size_bytes: u64,
}

impl SealedFile {
    /// An empty one in the folder for temporary files.
    ///
    /// # Errors
    /// No file can be made, or the system gives no random octets.
    pub(super) fn create() -> io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        aws_lc_rs::rand::fill(key.as_mut()).map_err(|_| io::Error::other("no random octets"))?;
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(|_| refused())?;
        Ok(Self {
            file: tempfile::tempfile()?,
            key: LessSafeKey::new(key),
            blocks: Vec::new(),
            size_bytes: 0,
        })
    }

    /// Octets written, sealing not counted.
    pub(super) const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Adds a block, and gives its buffer back empty.
    ///
    /// # Errors
    /// It cannot be written. Nothing may be appended after that.
    pub(super) fn append(&mut self, mut block: Vec<u8>) -> io::Result<Vec<u8>> {
        let size_bytes = u64::try_from(block.len()).unwrap_or(u64::MAX);
        let nonce = nonce(self.blocks.len());
        self.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut block).map_err(|_| refused())?;
        self.file.write_all(&block)?;
        self.blocks.push(block.len());
        self.size_bytes += size_bytes;
        block.clear();
        Ok(block)
    }

    /// Everything, behind `headroom` octets of zero: one buffer, filled and opened block by block.
    ///
    /// # Errors
    /// It cannot be read, or is not what was written.
    pub(super) fn read(mut self, headroom: usize) -> io::Result<Vec<u8>> {
        let size = usize::try_from(self.size_bytes).map_err(io::Error::other)?;
        let mut whole = Vec::with_capacity(headroom + size + AES_256_GCM.tag_len());
        whole.resize(headroom, 0);
        self.file.rewind()?;
        for (number, sealed_length) in self.blocks.iter().enumerate() {
            let start = whole.len();
            whole.resize(start + sealed_length, 0);
            let block = whole.get_mut(start..).unwrap_or_default();
            self.file.read_exact(block)?;
            let opened = self.key.open_in_place(nonce(number), Aad::empty(), block);
            let length = opened.map_err(|_| refused())?.len();
            whole.truncate(start + length);
        }
        Ok(whole)
    }
}

impl std::fmt::Debug for SealedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealedFile").field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

/// Each key seals one file, so a counter never repeats.
fn nonce(number: usize) -> Nonce {
    let mut octets = [0; NONCE_LEN];
    let counter = u64::try_from(number).unwrap_or(u64::MAX).to_be_bytes();
    octets.iter_mut().rev().zip(counter.iter().rev()).for_each(|(to, from)| *to = *from);
    Nonce::assume_unique_for_key(octets)
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the sealed temporary file does not open")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn written(blocks: &[&[u8]]) -> SealedFile {
        let mut file = SealedFile::create().unwrap();
        for block in blocks {
            assert!(file.append(block.to_vec()).unwrap().is_empty());
        }
        file
    }

    fn on_disk(file: &SealedFile) -> Vec<u8> {
        let mut octets = vec![0; file.blocks.iter().sum()];
        file.file.read_exact_at(&mut octets, 0).unwrap();
        octets
    }

    #[test]
    fn what_is_written_is_read_back_behind_the_headroom() {
        let file = written(&[b"one ", &[7; 100_000], b"", b"three"]);
        assert_eq!(file.size_bytes(), 100_009);
        let whole = file.read(16).unwrap();
        assert_eq!(whole[..16], [0; 16]);
        assert_eq!(whole[16..], [&b"one "[..], &[7; 100_000], b"three"].concat());
        assert!(written(&[]).read(0).unwrap().is_empty());
    }

    #[test]
    fn the_disk_shows_nothing_of_a_mail_and_the_same_block_twice_differs() {
        let secret = b"a line of a mail that nobody else may read".repeat(10);
        let file = written(&[&secret, &secret]);
        let octets = on_disk(&file);
        assert!(memchr::memmem::find(&octets, b"nobody else").is_none());
        assert_ne!(octets[..100], octets[octets.len() / 2..][..100]);
        assert_ne!(octets, on_disk(&written(&[&secret, &secret])), "each file has its own key");
    }

    #[test]
    fn a_changed_octet_is_an_error() {
        let file = written(&[b"a mail"]);
        let first = on_disk(&file)[0];
        file.file.write_all_at(&[first ^ 1], 0).unwrap();
        assert_eq!(file.read(0).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
