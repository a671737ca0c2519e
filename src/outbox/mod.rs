//! Events out: what was committed reaches the world at least once, whatever dies in between.
//!
//! The pattern is always the same: claim with a lease (in the store), send (no transaction is open meanwhile), settle
//! (in the store, only while the lease is still ours). Who is killed between sending and settling leaves a lease
//! that ends, and the next one sends the same thing with the same id again.

pub mod compose;
mod copy;
mod notice;
pub mod relay;
pub mod schedule;
pub mod smarthost;
