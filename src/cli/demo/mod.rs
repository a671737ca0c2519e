//! `syncmx demo`: a practice, its mails, and what became of each, shown in one table.
//!
//! The mails are files under `fixtures/demo`, compiled in. They are made current ([`fixture`]), signed ([`sign`]),
//! sent through real SMTP with STARTTLS ([`mailer`]) and looked up over the real API ([`admin`]). [`sign`] and
//! [`mailer`] are the mail kit of the end-to-end tests and of the load tool too. Nothing here decides anything about
//! a mail, and nothing leaves the loopback network.

pub mod admin;
pub mod fixture;
pub mod mailer;
pub mod practice;
pub mod run;
pub mod sign;
pub mod table;
pub(in crate::cli) mod trust;
