//! The body of the message that is coming in: in memory up to 256 KiB, beyond that in a file without a name.
//!
//! Promises that octets count against one budget of the whole server as they are received, never as they are
//! announced, until the handler has answered; and that nothing outlives its [`Spool`].

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::smtp::Body;

/// A larger body goes to a file, in blocks of this size.
const MEMORY_OCTETS: usize = 256 * 1024;

/// Octets of bodies that may be on their way at once, in all sessions together.
#[derive(Debug)]
pub(super) struct Budget {
    left: AtomicU64,
    low_water: u64,
}

/// Why a body cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpoolError {
    /// Too much is on its way in other sessions.
    #[error("the budget for message bodies is used up")]
    OverBudget,
    /// The temporary file cannot be made or written.
    #[error("cannot write the temporary file of a message body")]
    Unwritable(#[source] io::Error),
}

/// The body so far.
#[derive(Debug)]
pub(super) struct Spool {
    content: Content,
    reserved: Reservation,
}

#[derive(Debug)]
enum Content {
    File {
        file: File,
        size_bytes: u64,
        unwritten: Vec<u8>,
    },
    Memory(Vec<u8>),
    /// It could not be kept; what still comes is dropped.
    Refused,
}

/// Octets of the budget that one body holds; given back on drop.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    octets: u64,
}

impl Budget {
    pub(super) const fn new(octets: u64) -> Self {
        Self { left: AtomicU64::new(octets), low_water: octets / 8 }
    }

    /// Whether another message should not even begin.
    pub(super) fn is_low(&self) -> bool {
        self.left.load(Ordering::Relaxed) < self.low_water
    }
}

impl Spool {
    pub(super) const fn new(budget: Arc<Budget>) -> Self {
        Self { content: Content::Memory(Vec::new()), reserved: Reservation { budget, octets: 0 } }
    }

    /// Forgets what is there and begins an empty body.
    pub(super) fn restart(&mut self) {
        *self = Self::new(Arc::clone(&self.reserved.budget));
    }

    /// Adds to the body.
    ///
    /// # Errors
    /// Over the budget, or if the file cannot be written. Then nothing is kept any more.
    pub(super) async fn append(&mut self, bytes: &Bytes) -> Result<(), SpoolError> {
        if matches!(self.content, Content::Refused) {
            return Ok(());
        }
        let appended = self.try_append(bytes).await;
        if appended.is_err() {
            self.restart();
            self.content = Content::Refused;
        }
        appended
    }

    /// The whole body, and what it holds of the budget until the handler has answered.
    ///
    /// # Errors
    /// If the last block cannot be written.
    pub(super) async fn finish(&mut self) -> Result<(Body, Reservation), SpoolError> {
        self.write_out(1).await?;
        let empty = Self::new(Arc::clone(&self.reserved.budget));
        let Self { content, reserved } = std::mem::replace(self, empty);
        let body = match content {
            Content::File { file, size_bytes, .. } => Body::File { file, size_bytes },
            Content::Memory(octets) => Body::Memory(octets),
            Content::Refused => return Err(SpoolError::OverBudget),
        };
        Ok((body, reserved))
    }

    async fn try_append(&mut self, bytes: &Bytes) -> Result<(), SpoolError> {
        self.reserved.grow(bytes.len())?;
        match &mut self.content {
            Content::Memory(octets) if octets.len() + bytes.len() <= MEMORY_OCTETS => {
                octets.extend_from_slice(bytes);
                return Ok(());
            }
            Content::Memory(octets) => {
                let mut unwritten = std::mem::take(octets);
                unwritten.extend_from_slice(bytes);
                let file = off_the_reactor(tempfile::tempfile).await?;
                self.content = Content::File { file, size_bytes: 0, unwritten };
            }
            Content::File { unwritten, .. } => unwritten.extend_from_slice(bytes),
            Content::Refused => {}
        }
        self.write_out(MEMORY_OCTETS).await
    }

    /// Writes what is waiting for the file, if it is at least so much.
    async fn write_out(&mut self, least: usize) -> Result<(), SpoolError> {
        let Content::File { file, size_bytes, unwritten } = &mut self.content else { return Ok(()) };
        if unwritten.len() < least {
            return Ok(());
        }
        let mut handle = file.try_clone().map_err(SpoolError::Unwritable)?;
        let block = std::mem::take(unwritten);
        *size_bytes += u64::try_from(block.len()).unwrap_or(u64::MAX);
        let mut block = off_the_reactor(move || handle.write_all(&block).map(|()| block)).await?;
        block.clear();
        *unwritten = block;
        Ok(())
    }
}

impl Reservation {
    fn grow(&mut self, octets: usize) -> Result<(), SpoolError> {
        let octets = u64::try_from(octets).unwrap_or(u64::MAX);
        self.budget
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(octets))
            .map_err(|_| SpoolError::OverBudget)?;
        self.octets += octets;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.octets, Ordering::Relaxed);
    }
}

/// A slow disk stops this session, not the others.
async fn off_the_reactor<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, SpoolError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.flatten().map_err(SpoolError::Unwritable)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    async fn spooled(octets: usize) -> (Body, Arc<Budget>) {
        let budget = Arc::new(Budget::new(1 << 20));
        let mut spool = Spool::new(Arc::clone(&budget));
        let whole: Vec<u8> = (0..octets).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for piece in whole.chunks(10_000) {
            spool.append(&Bytes::copy_from_slice(piece)).await.unwrap();
        }
        let (mut body, reserved) = spool.finish().await.unwrap();
        assert_eq!(budget.left.load(Ordering::Relaxed), (1 << 20) - u64::try_from(octets).unwrap());
        drop(reserved);
        let read = match &mut body {
            Body::File { file, size_bytes } => {
                assert_eq!(*size_bytes, u64::try_from(octets).unwrap());
                let mut read = Vec::new();
                file.rewind().unwrap();
                file.read_to_end(&mut read).unwrap();
                read
            }
            Body::Memory(octets) => octets.clone(),
        };
        assert!(read == whole, "{octets} octets come back as they were");
        (body, budget)
    }

    #[tokio::test]
    async fn a_body_of_256_kib_stays_in_memory_and_one_octet_more_goes_to_a_file() {
        assert!(matches!(spooled(MEMORY_OCTETS).await.0, Body::Memory(_)));
        assert!(matches!(spooled(MEMORY_OCTETS + 1).await.0, Body::File { .. }));
        assert!(matches!(spooled(3 * MEMORY_OCTETS + 17).await.0, Body::File { .. }));
    }

    #[tokio::test]
    async fn s16_the_budget_is_given_back_and_a_refused_body_holds_nothing() {
        let (_, budget) = spooled(1000).await;
        assert_eq!(budget.left.load(Ordering::Relaxed), 1 << 20);
        let mut spool = Spool::new(Arc::clone(&budget));
        let half = Bytes::from(vec![0; 1 << 19]);
        spool.append(&half).await.unwrap();
        spool.append(&half).await.unwrap();
        assert!(budget.is_low());
        assert!(matches!(spool.append(&Bytes::from_static(b"x")).await, Err(SpoolError::OverBudget)));
        assert_eq!(budget.left.load(Ordering::Relaxed), 1 << 20);
        assert!(spool.append(&half).await.is_ok(), "what still comes is dropped");
        assert!(spool.finish().await.is_err());
    }
}
