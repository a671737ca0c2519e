//! The HTTP API as a client sees it: a real server on a free loopback port over a real store.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on may stop")]

mod accounts;
mod audit;
mod contacts;
mod document;
mod feeds;
mod guard;
mod mail;
mod purge;
mod repeated;
mod review;
mod server;
