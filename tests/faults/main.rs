//! Faults, and what they cost: the real program is killed, starved, lied to and cut off while mail comes in. In none is
//! a 250 without its message, a 5yz for our own trouble, a half-written message, or anything of another account.
//!
//! Each test prints its line of the table. The ordinary run makes a few rounds of each; `tests/faults/run.sh` makes all
//! of them, one test after the other, and prints the table (`SYNCMX_FAULTS=full`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::panic, reason = "a test fails by panicking")]

mod anomaly;
#[expect(dead_code, reason = "the end-to-end tests use more of it")]
#[path = "../e2e/api.rs"]
mod api;
#[expect(dead_code, reason = "the end-to-end tests use more of it")]
#[path = "../e2e/app.rs"]
mod app;
#[expect(dead_code, reason = "the end-to-end tests use more of it")]
#[path = "../e2e/beside.rs"]
mod beside;
mod blobs;
#[path = "../support/bucket.rs"]
mod bucket;
mod clock;
mod commands;
mod commands_cut;
mod database;
mod disk;
mod first_start;
mod interpose;
mod kill;
mod ledger;
#[expect(dead_code, reason = "the end-to-end tests use more of it")]
#[path = "../e2e/mail.rs"]
mod mail;
mod proxy;
mod refusal;
mod replies;
mod server;
mod table;
mod tenants;
