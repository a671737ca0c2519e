//! R60: what was erased is to stand nowhere, the log of the database included. (SQLite's; PostgreSQL's is the
//! operator's affair.)
//!
//! The log is emptied right after an erasure. Somebody who reads from it just then, or a fault, holds that up, and a
//! crash prevents it: it is remembered in memory that the log is suspect, and from the start nobody knows better. The
//! server tries until it is emptied.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::store::Store;

impl Store {
    /// Something was erased, or may have been by another process.
    pub fn suspect_log(&self) {
        self.inner.suspects_log.store(true, Ordering::SeqCst);
    }

    /// Empties the log if it is suspect; waits for nobody. Returns whether nothing that was erased stands there.
    pub async fn clear_log(&self) -> bool {
        // First: what is erased meanwhile makes it suspect anew.
        if !self.inner.suspects_log.swap(false, Ordering::SeqCst) {
            return true;
        }
        let is_empty = self.inner.write.forget_log().await.unwrap_or(false);
        if !is_empty {
            self.suspect_log();
        }
        is_empty
    }

    /// After an erasure: as soon as nobody reads from the log, for a while behind us.
    pub(in crate::store) async fn forget_log(&self) {
        self.suspect_log();
        for _ in 0..TRIES {
            if self.clear_log().await {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let store = self.clone();
        tokio::spawn(async move {
            for _ in 0..LATE_TRIES {
                tokio::time::sleep(LATE_PAUSE).await;
                if store.clear_log().await {
                    return;
                }
            }
        });
    }
}

const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(50);
/// The server itself goes on after these.
const LATE_TRIES: u32 = 600;
const LATE_PAUSE: Duration = Duration::from_secs(1);
