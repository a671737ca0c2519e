//! The HTTP API as a client sees it: a real server on a free loopback port over a real store: SQLite, or
//! with `SYNCMX_TEST_ENGINE=postgres` PostgreSQL, with `SYNCMX_TEST_SEAL_ROWS=1` with sealed rows.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on may stop")]

mod accounts;
mod audit;
mod backlog;
mod contacts;
mod damaged;
mod document;
mod feeds;
mod forgotten;
mod guard;
mod held_on;
mod mail;
mod operator;
#[path = "../support/postgres.rs"]
mod postgres;
mod purge;
mod repeated;
mod review;
mod search;
mod server;
mod unlinked;
mod upkeep;
mod webhooks;
