//! Watches the disks that mail is written to, and turns the [`RoomSwitch`] before they are full (row X4).
//!
//! Promises that a full disk is met at MAIL, with `452 4.3.1`, and hardly ever by a message that is half read. A disk
//! that cannot be asked changes nothing: the store says so itself when it cannot write.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::smtp::step::Room;
use crate::smtp::switch::{RoomSwitch, SettingsSwitch};

/// Looks at the folders' disks every [`PAUSE`] until the server stops.
pub(super) async fn watch(
    folders: Vec<PathBuf>,
    settings: SettingsSwitch,
    room: RoomSwitch,
    shutdown: CancellationToken,
) {
    loop {
        let asked = folders.clone();
        // A disk that hangs keeps a thread of its own waiting, and nobody else, not the end of the server either.
        let asking = tokio::task::spawn_blocking(move || least_free_bytes(&asked));
        let Some(asked) = shutdown.run_until_cancelled(asking).await else { return };
        let least = asked.ok().flatten();
        let needed_bytes = needed_bytes(settings.current().max_message_bytes);
        if let Some(free_bytes) = least {
            metrics::gauge!("syncmx_disk_free_bytes").set(approximately(free_bytes));
            tell(&room, free_bytes, needed_bytes);
        }
        if shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
            return;
        }
    }
}

/// Says it once when it changes.
fn tell(room: &RoomSwitch, free_bytes: u64, needed_bytes: u64) {
    let now = if free_bytes < needed_bytes { Room::Scarce } else { Room::Enough };
    match (room.current(), now) {
        (Room::Enough, Room::Scarce) => {
            tracing::error!(free_bytes, needed_bytes, "disk nearly full, mail is put off with 452");
        }
        (Room::Scarce, Room::Enough) => tracing::info!(free_bytes, "disk has room again, mail is taken"),
        (Room::Enough, Room::Enough) | (Room::Scarce, Room::Scarce) => {}
    }
    room.set(now);
}

/// Room for two of the largest messages (its body, and what is stored of it), and never less than the database and its
/// log want.
pub(crate) const fn needed_bytes(max_message_bytes: u64) -> u64 {
    let two_messages = max_message_bytes.saturating_mul(2);
    if two_messages > LEAST_BYTES { two_messages } else { LEAST_BYTES }
}

fn least_free_bytes(folders: &[PathBuf]) -> Option<u64> {
    folders.iter().filter_map(|folder| free_bytes(folder).ok()).min()
}

/// What is free for those without privileges.
pub(crate) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; nobody counts single octets of a disk")]
const fn approximately(octets: u64) -> f64 {
    octets as f64
}

const LEAST_BYTES: u64 = 64 << 20;
const PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x4_room_is_scarce_below_two_messages_or_64_mib_whichever_is_more() {
        let room = RoomSwitch::default();
        for (max_message_bytes, needed) in
            [(1, 64 << 20), (32 << 20, 64 << 20), ((32 << 20) + 1, (64 << 20) + 2), (36 << 20, 72 << 20)]
        {
            assert_eq!(needed_bytes(max_message_bytes), needed);
            tell(&room, needed - 1, needed);
            assert_eq!(room.current(), Room::Scarce);
            tell(&room, needed, needed);
            assert_eq!(room.current(), Room::Enough);
        }
        assert_eq!(needed_bytes(u64::MAX), u64::MAX);
    }

    #[test]
    fn the_fullest_disk_counts_and_one_that_cannot_be_asked_does_not() {
        let folder = std::env::temp_dir();
        let free = least_free_bytes(&[PathBuf::from("/nonexistent"), folder]);
        assert!(free.is_some_and(|free| free > 0));
        assert_eq!(least_free_bytes(&[PathBuf::from("/nonexistent")]), None);
    }
}
