//! Events as server-sent events (`Accept: text/event-stream`): pushed as they are committed, resumed by
//! `Last-Event-ID`.
//!
//! Promises at most [`STREAMS_MAX`] streams, [`STREAMS_OF_ACCOUNT_MAX`] of them one account's; a comment every
//! [`HEARTBEAT`]; an end when the server drains, when the client does not read, when its token is deleted, and after
//! [`LIFETIME`]. The client comes back with the last id it has and misses nothing.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::http::App;
use crate::http::api::events::{self, Event};
use crate::http::auth::Shown;
use crate::http::problem::{Answer, Problem};
use crate::id::AccountId;
use crate::store::directory::Principal;
use crate::store::views::{Key, Slice};

/// Who holds how many streams.
#[derive(Clone, Debug, Default)]
pub(in crate::http) struct Streams(Arc<Mutex<HashMap<AccountId, usize>>>);

/// One stream's place; given back on drop.
struct Place {
    streams: Streams,
    account: AccountId,
}

impl Streams {
    fn take(&self, account: AccountId) -> Answer<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.values().sum::<usize>() >= STREAMS_MAX {
            return Err(Problem::unavailable("the server has no place for another stream"));
        }
        let count = counts.entry(account).or_default();
        if *count >= STREAMS_OF_ACCOUNT_MAX {
            let detail = format!("an account has at most {STREAMS_OF_ACCOUNT_MAX} streams");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, detail));
        }
        *count += 1;
        Ok(Place { streams: self.clone(), account })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.account);
            }
        }
    }
}

/// Streams the events behind `after`, and then those that come.
pub(super) fn open(
    app: &App,
    principal: &Principal,
    account: AccountId,
    after: Option<Key>,
    shown: Shown,
) -> Answer<Response> {
    let place = app.streams.take(account)?;
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let (app, principal) = (app.clone(), principal.clone());
    let stream = Stream { app, principal, account, after, shown, sender, _place: place };
    tokio::spawn(stream.run());
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // A proxy that gathers an answer before it passes it on would hold events back.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::new(Chunks(receiver))).into_response())
}

struct Stream {
    app: App,
    principal: Principal,
    account: AccountId,
    after: Option<Key>,
    shown: Shown,
    sender: mpsc::Sender<Bytes>,
    _place: Place,
}

/// Why a stream ends.
struct Over;

impl Stream {
    async fn run(mut self) {
        let draining = self.app.draining.clone();
        let serving = timeout(LIFETIME, self.serve());
        // Either way the client comes back.
        let _over = draining.run_until_cancelled(serving).await;
    }

    async fn serve(&mut self) -> Over {
        // Before the first look, so that nothing falls between.
        let mut rings = self.app.store.listen();
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_sent = Instant::now();
        if self.send(format!("retry: {RETRY_MILLIS}\n\n")).await.is_err() {
            return Over;
        }
        loop {
            match self.send_new().await {
                Ok(0) if last_sent.elapsed() < HEARTBEAT => {}
                Ok(0) => {
                    if self.send(":\n\n".to_owned()).await.is_err() {
                        return Over;
                    }
                    last_sent = Instant::now();
                }
                Ok(_) => last_sent = Instant::now(),
                Err(Over) => return Over,
            }
            loop {
                tokio::select! {
                    ring = rings.next() => match ring {
                        Some(ring) if ring.is_for(self.account) => break,
                        Some(_) => {}
                        None => return Over,
                    },
                    _ = looks.tick() => break,
                    () = self.sender.closed() => return Over,
                }
            }
        }
    }

    /// Sends what there is; says how much that was.
    async fn send_new(&mut self) -> Result<usize, Over> {
        let mut sent = 0;
        loop {
            if !self.app.store.is_current(&self.principal).await.is_ok_and(|is_current| is_current) {
                return Err(Over);
            }
            let slice = Slice { limit: PAGE, after: self.after };
            let page = self.app.store.events(self.account, slice).await.map_err(|error| {
                tracing::error!(error = error.one_line(), "events.stream_failed");
                Over
            })?;
            if events::note(&self.app, &self.principal, self.account, self.shown, &page.items).await.is_err()
            {
                return Err(Over);
            }
            let has_more = page.next.is_some();
            for event in page.items {
                let (id, kind) = (event.id, event.kind.clone());
                let shown = serde_json::to_string(&Event::show(event, self.shown)).map_err(|_| Over)?;
                self.send(format!("id: {id}\nevent: {kind}\ndata: {shown}\n\n")).await?;
                self.after = Some(Key::of_id(id.uuid()));
                sent += 1;
            }
            if !has_more {
                return Ok(sent);
            }
        }
    }

    async fn send(&self, text: String) -> Result<(), Over> {
        match timeout(READ_LIMIT, self.sender.send(Bytes::from(text))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Over),
        }
    }
}

/// A body made of what comes through a channel.
struct Chunks(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// Each holds a connection and a task.
const STREAMS_MAX: usize = 512;
const STREAMS_OF_ACCOUNT_MAX: usize = 32;
const HEARTBEAT: Duration = Duration::from_secs(15);
/// For what another process has committed.
const LOOK: Duration = Duration::from_secs(5);
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// For a client that does not read.
const READ_LIMIT: Duration = Duration::from_secs(60);
/// Events that wait for the client to read.
const CHUNKS_MAX: usize = 64;
/// Events read at once.
const PAGE: u32 = 100;
/// How soon a client comes back.
const RETRY_MILLIS: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_its_share_of_the_places_and_gives_them_back() {
        let streams = Streams::default();
        let account = AccountId::generate();
        let mut places: Vec<Place> =
            (0..STREAMS_OF_ACCOUNT_MAX).map(|_| streams.take(account).unwrap_or_else(|_| panic!())).collect();
        assert!(streams.take(account).is_err());
        assert!(streams.take(AccountId::generate()).is_ok());
        places.pop();
        assert!(streams.take(account).is_ok());
        let mut all = Vec::new();
        while all.len() + places.len() < STREAMS_MAX {
            all.push(streams.take(AccountId::generate()).unwrap_or_else(|_| panic!()));
        }
        assert!(streams.take(AccountId::generate()).is_err());
        drop((places, all));
        assert!(streams.0.lock().unwrap().is_empty());
    }
}
