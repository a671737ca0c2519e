//! syncmx: a mail exchanger that files email onto CRM contact records.
//!
//! The modules stand in the order a message takes:
//! `smtp` → `address` → `auth` → `message` → `filing` → `store` → `outbox`, and `http` beside them.

pub mod address;
pub mod app;
pub mod auth;
mod certificate;
pub mod cli;
pub mod clock;
pub mod config;
mod examine;
pub mod filing;
mod housekeeping;
pub mod http;
pub mod id;
mod indexing;
mod inherited;
pub mod intake;
pub mod keys;
mod malware;
pub mod message;
pub mod mta_sts;
pub mod outbox;
mod poison;
mod postmaster;
mod reload;
pub mod smtp;
pub mod store;
pub mod time;
pub mod wire;
mod workbench;
pub mod zone;
