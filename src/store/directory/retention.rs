//! When what is over ends (R3, R35, R36, R60, R61), and how that is reported.
//!
//! Every hour each account has its turns, small transactions with a pause after each, so that filing goes first, until
//! nothing is left that was over at the start. What the settings have ended stands in the audit trail by the
//! transaction that ended it, and is told by an event once an account and run; where very much ends, after every
//! turn.

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::filing::Settings;
use crate::id::AccountId;
use crate::store::audit::Actor;
use crate::store::directory::erase::Erased;
use crate::store::directory::{Change, DirectoryError, Log};
use crate::store::engine::query_as;
use crate::store::{HOUSEKEEPING_PAUSE, Store, StoreError};
use crate::time::Timestamp;

/// What has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Held messages that nobody decided on in time.
    pub held: u64,
    /// Delivery traces.
    pub traces: u64,
    /// Messages on records.
    pub messages: u64,
    /// Marks without mail.
    pub marks: u64,
    /// Hashes of what was erased.
    pub tombstones: u64,
    /// Held messages that were filed, because their author had been accepted meanwhile (R12).
    pub released: u64,
}

impl Expired {
    const fn add(&mut self, ended: &Ended) {
        self.held += ended.held.held;
        self.traces += ended.traces.deliveries;
        self.messages += ended.content.messages;
        self.marks += ended.marks;
        self.tombstones += ended.tombstones;
    }
}

/// What a piece or a turn of one account has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) held: Erased,
    pub(super) traces: Erased,
    pub(super) content: Erased,
    /// Of held mail: what is told by nobody, like the rest below.
    pub(super) retries: u64,
    pub(super) events: u64,
    pub(super) marks: u64,
    pub(super) relay: u64,
    pub(super) tombstones: u64,
}

/// What ends by itself. Each in transactions of its own: where one kind fails, the others end all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Content,
    Events,
    Held,
    Marks,
    Relay,
    Tombstones,
    Traces,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Relay, Self::Held, Self::Traces, Self::Content, Self::Events, Self::Marks, Self::Tombstones];
}

impl Ended {
    const fn add(&mut self, other: &Self) {
        self.held.add(other.held);
        self.traces.add(other.traces);
        self.content.add(other.content);
        self.retries += other.retries;
        self.events += other.events;
        self.marks += other.marks;
        self.relay += other.relay;
        self.tombstones += other.tombstones;
    }

    /// What the settings have ended, each by its name.
    fn by_setting(&self) -> impl Iterator<Item = (&'static str, Erased)> {
        let all = [("trace_days", self.traces), ("held_days", self.held), ("content_days", self.content)];
        all.into_iter().filter(|(_, erased)| *erased != Erased::default())
    }
}

/// Whether an account has to have another turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Something,
}

impl Store {
    /// [`Self::expire_until`] with nobody to end it.
    ///
    /// # Errors
    /// As there.
    pub async fn expire(&self, now: Timestamp) -> Result<Expired, DirectoryError> {
        self.expire_until(now, &CancellationToken::new()).await
    }

    /// Ends what is over by `now` in every account, until nothing is left, or until `draining`. Where it fails in one,
    /// the others are done all the same, and the next call goes on.
    ///
    /// # Errors
    /// The first, if anything failed; each is logged.
    pub async fn expire_until(
        &self,
        now: Timestamp,
        draining: &CancellationToken,
    ) -> Result<Expired, DirectoryError> {
        let mut all = Expired::default();
        let mut failed = tokio::select! {
            () = draining.cancelled() => None,
            released = self.release_accepted(&mut all.released) => released.err(),
        };
        let mut fail = |account: AccountId, error: DirectoryError| {
            warn!(account.id = %account, error = &error as &dyn std::error::Error, "housekeeping.account_failed");
            failed.get_or_insert(error);
        };
        let mut waiting = Vec::new();
        for (account, settings) in self.settings_of_all().await? {
            match settings {
                Ok(settings) => waiting.push((account, settings)),
                // Without its settings nobody knows how long an account keeps what.
                Err(error) => fail(account, error.into()),
            }
        }
        // One turn after the other: an account with much to end holds up no other.
        while !waiting.is_empty() && !draining.is_cancelled() {
            let mut left = Vec::new();
            for (account, settings) in waiting {
                match self.expire_turn(account, &settings, (now, draining), &mut all).await {
                    Ok(Left::Nothing) => {}
                    Ok(Left::Something) => left.push((account, settings)),
                    Err(error) => fail(account, error),
                }
            }
            waiting = left;
        }
        failed.map_or(Ok(all), Err)
    }

    async fn settings_of_all(&self) -> Result<Vec<(AccountId, Result<Settings, StoreError>)>, StoreError> {
        let accounts: Vec<(Uuid, String)> =
            query_as("SELECT account_id, settings FROM accounts").fetch_all(self.reader()).await?;
        let keys = self.operator_row_keys();
        let read = |(account, settings): (Uuid, String)| {
            let settings = keys.show("accounts.settings", account, settings);
            let settings = settings.map(|settings| serde_json::from_str(&settings).unwrap_or_default());
            (AccountId::from_uuid(account), settings)
        };
        Ok(accounts.into_iter().map(read).collect())
    }

    /// Some pieces, and the report of them, whatever stopped it.
    async fn expire_turn(
        &self,
        account: AccountId,
        settings: &Settings,
        until: (Timestamp, &CancellationToken),
        all: &mut Expired,
    ) -> Result<Left, DirectoryError> {
        let mut ended = Ended::default();
        let left = self.expire_pieces(account, settings, until, &mut ended).await;
        all.add(&ended);
        if ended.by_setting().next().is_some() {
            let mut change = self.change().await?;
            change.report(account, &ended).await?;
            change.commit().await?;
        }
        left
    }

    async fn expire_pieces(
        &self,
        account: AccountId,
        settings: &Settings,
        (now, draining): (Timestamp, &CancellationToken),
        ended: &mut Ended,
    ) -> Result<Left, DirectoryError> {
        let (mut kinds, mut failed) = (Kind::ALL.to_vec(), None);
        for _ in 0..PIECES_A_TURN {
            let mut left = Vec::new();
            for kind in kinds {
                if draining.is_cancelled() {
                    return failed.map_or(Ok(Left::Something), Err);
                }
                match self.expire_piece(account, kind, settings, now).await {
                    Ok(piece) if piece == Ended::default() => {}
                    Ok(piece) => {
                        ended.add(&piece);
                        left.push(kind);
                    }
                    // It is tried again in an hour.
                    Err(error) => drop(failed.get_or_insert(error)),
                }
            }
            kinds = left;
            if kinds.is_empty() {
                return failed.map_or(Ok(Left::Nothing), Err);
            }
            tokio::time::sleep(HOUSEKEEPING_PAUSE).await;
        }
        // What failed is tried once a turn, and told when the others are done.
        Ok(Left::Something)
    }

    async fn expire_piece(
        &self,
        account: AccountId,
        kind: Kind,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<Ended, DirectoryError> {
        let mut change = self.change().await?;
        let piece = change.expire_some(account, kind, settings, now).await?;
        change.commit().await?;
        Ok(piece)
    }
}

impl Change {
    /// R64: what a piece has erased by the account's settings, in the transaction that erases it.
    pub(super) async fn note_ended(
        &mut self,
        account: AccountId,
        ended: &Ended,
    ) -> Result<(), DirectoryError> {
        for (because, erased) in ended.by_setting() {
            let data = counts(because, erased);
            self.note(account, &Actor::System.to_string(), "purge.done", because.to_owned(), Some(data))
                .await?;
        }
        Ok(())
    }

    /// R60, R61: what a turn has erased by the account's settings, each as an event.
    async fn report(&mut self, account: AccountId, ended: &Ended) -> Result<(), DirectoryError> {
        self.log = Log::Forget;
        for (because, erased) in ended.by_setting() {
            self.emit(account, "purge.done", None, &counts(because, erased)).await?;
        }
        Ok(())
    }
}

fn counts(because: &'static str, erased: Erased) -> Value {
    let mut data = erased.counts();
    data["because"] = because.into();
    data
}

/// Transactions of one account before others have their turn.
const PIECES_A_TURN: usize = 500;
