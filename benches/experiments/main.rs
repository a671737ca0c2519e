//! The experiments X6–X14, X16, X27 and S16 on the real program, on this machine, client included; prints one table.
//!
//! `cargo bench --bench experiments -- [X7 X8 …] [--scale N]`: all or some, at N parts of a hundred of the full counts
//! (10,000 idle and 2,000 dripping connections; 20 unless told). It is a tool and no test: it fails for nothing, and
//! says of each row whether it passed. What X13, X15 and X17 ask is in the ordinary tests, X8, X9 and X10 there too. All
//! on loopback.
#![expect(clippy::unwrap_used, clippy::panic, reason = "an experiment that cannot be made stops")]

#[expect(dead_code, reason = "the end-to-end tests use more of it")]
#[path = "../../tests/e2e/api.rs"]
mod api;
#[expect(dead_code, reason = "the end-to-end tests use more of it")]
#[path = "../../tests/e2e/app.rs"]
mod app;
mod clients;
mod dns;
mod flood;
mod huge;
mod load;
#[expect(dead_code, reason = "the end-to-end tests use more of it")]
#[path = "../../tests/e2e/mail.rs"]
mod mail;
#[path = "../../tests/support/memory_of.rs"]
mod memory_of;
mod order;

/// One line of the table.
struct Row {
    id: &'static str,
    what: String,
    measured: String,
    passed: bool,
}

/// How large a part of the full experiment is made.
#[derive(Clone, Copy)]
struct Scale(usize);

impl Scale {
    /// So many of what the full experiment has; at least 10.
    fn of(self, full: usize) -> usize {
        (full * self.0 / 100).max(10)
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let scale = arguments.iter().position(|argument| argument == "--scale");
    let scale = Scale(scale.map_or(20, |at| arguments[at + 1].parse().unwrap()));
    let wanted = |id: &str| {
        let named: Vec<&String> =
            arguments.iter().filter(|argument| argument.starts_with(['S', 'X'])).collect();
        named.is_empty() || named.iter().any(|name| *name == id)
    };
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    println!("{build} build, scale {} %, {} cores", scale.0, std::thread::available_parallelism().unwrap());
    println!("| | experiment | measured | |\n|---|---|---|---|");
    if wanted("X6") {
        for row in dns::x6(scale).await {
            print(&row);
        }
    }
    if wanted("X7") {
        print(&load::x7_slowloris(scale).await);
        print(&load::x7_slowloris_under_stress(scale).await);
    }
    if wanted("X8") {
        print(&load::x8_idle(scale).await);
    }
    if wanted("X9") {
        print(&order::x9_descriptors().await);
    }
    if wanted("X10") {
        print(&order::x10_half_open(scale).await);
    }
    if wanted("X11") {
        for row in load::x11_handshakes(scale).await {
            print(&row);
        }
    }
    if wanted("X12") {
        for row in huge::x12_huge().await {
            print(&row);
        }
    }
    if wanted("S16") {
        for row in huge::s16_many_bodies(scale).await {
            print(&row);
        }
        for row in huge::s16_large_mails(scale).await {
            print(&row);
        }
    }
    if wanted("X14") {
        print(&order::x14_sigterm().await);
    }
    if wanted("X16") {
        print(&order::x16_certificates(scale).await);
    }
    if wanted("X27") {
        print(&flood::x27_flood(scale).await);
    }
}

fn print(row: &Row) {
    let passed = if row.passed { "pass" } else { "**fail**" };
    println!("| {} | {} | {} | {passed} |", row.id, row.what, row.measured);
}
