//! End to end: the real program on free loopback ports, real SMTP with STARTTLS, the real API, its own DNS zone where
//! every other name does not exist, a scratch data folder.
//!
//! With `SYNCMX_TEST_ENGINE=postgres` the servers keep their mail in PostgreSQL, with `SYNCMX_TEST_SEAL_ROWS=1` sealed.
//! Each test starts its own server, so that none sees another's mail.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::panic, reason = "a test fails by panicking")]

mod api;
mod app;
mod bad_input;
mod beside;
#[path = "../support/bombs.rs"]
mod bombs;
mod bucket;
#[path = "../support/bucket.rs"]
mod bucket_server;
mod check;
mod commands;
mod damage;
mod demo;
mod durability;
mod endpoint;
mod export;
mod filing;
mod forwarded;
mod front;
mod hostile;
mod keys;
mod mail;
#[path = "../support/memory_of.rs"]
mod memory_of;
mod privacy;
mod refusals;
mod relay;
mod replies;
mod review;
mod sealed_rows;
mod sink;
mod start;
mod streams;
mod webhooks;
