//! The SMTP front from outside: dialogue files in memory, over TCP and over TLS, whole and octet by octet; the rules
//! of the core by their names; random input and random cuts; the end-of-data matrix; the server's life.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::string_slice, reason = "test scripts are ASCII where they are cut")]

#[path = "smtp_support/recorder.rs"]
mod recorder;
#[path = "smtp_support/script.rs"]
mod script;
#[path = "smtp_support/wire.rs"]
mod wire;

#[path = "smtp_support/attacks.rs"]
mod attacks;
#[path = "smtp_support/dialogues.rs"]
mod dialogues;
#[path = "smtp_support/rules.rs"]
mod rules;
#[path = "smtp_support/server.rs"]
mod server;
#[path = "smtp_support/smuggling.rs"]
mod smuggling;
