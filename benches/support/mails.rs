//! What the benchmarks send: mails as practices write them, all different, signed with rsa-sha256 and 2048 bits; and
//! the clock of the processor, which other work on the machine does not move much.

#![allow(clippy::allow_attributes, dead_code, reason = "each program that includes this uses its own part")]

use std::time::Duration;

use anyhow::{Context, Result};
use syncmx::cli::demo::sign::{Algorithm, Signer};

pub(crate) const HELO: &str = "mail-ed1-f41.google-mail.test";
pub(crate) const MAIL_FROM: &str = "lena.albrecht@praxis-morgenrot.test";
pub(crate) const CONTACTS: usize = 200;

/// Mails `first..first + count`, all different, signed on every core.
pub(crate) fn signed_mails(first: usize, count: usize, octets: usize) -> Result<Vec<Vec<u8>>> {
    let threads = std::thread::available_parallelism()?.get();
    let share = count.div_ceil(threads);
    std::thread::scope(|scope| {
        let shares: Vec<_> = (0..threads)
            .map(|thread| {
                let numbers = (first + thread * share).min(first + count)
                    ..(first + (thread + 1) * share).min(first + count);
                scope.spawn(move || -> Result<Vec<Vec<u8>>> {
                    let signer = Signer::new("praxis-morgenrot.test", "google", Algorithm::Rsa)?;
                    numbers.map(|number| Ok(signer.sign(&mail(number, octets))?)).collect()
                })
            })
            .collect();
        let mut mails = Vec::with_capacity(count);
        for share in shares {
            mails.extend(share.join().map_err(|_| anyhow::anyhow!("a signing thread ended"))??);
        }
        Ok(mails)
    })
}

/// A mail as practices send them: text, and the same as HTML, together about `octets` long; what is larger is a scan
/// attached to a text of 10 KB.
fn mail(number: usize, octets: usize) -> Vec<u8> {
    if octets > MAX_TEXT_OCTETS {
        return with_scan(number, octets);
    }
    let date = jiff::Zoned::now().strftime("%a, %d %b %Y %H:%M:%S %z");
    let to = contact(number % CONTACTS);
    let mut head = format!(
        "From: Dr. Lena Albrecht <{MAIL_FROM}>\r\nTo: Patient <{to}>\r\nSubject: Your plan number {number}\r\n\
         Date: {date}\r\nMessage-ID: <load-{number}@praxis-morgenrot.test>\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/alternative; boundary=\"b1\"\r\n\r\n--b1\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\nDear patient,\r\n\r\n"
    );
    let half = octets.saturating_sub(head.len() + 120) / 2;
    let mut seed = number;
    words(&mut head, half, &mut seed);
    head.push_str("\r\n--b1\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body><p>");
    words(&mut head, half, &mut seed);
    head.push_str("</p></body></html>\r\n--b1--\r\n");
    head.into_bytes()
}

fn with_scan(number: usize, octets: usize) -> Vec<u8> {
    let text = mail(number, 10 * 1024);
    let head_end = memchr::memmem::find(&text, b"Content-Type: multipart").unwrap_or(text.len());
    let (head, body) = text.split_at(head_end);
    let mut out = Vec::with_capacity(octets + 1024);
    out.extend_from_slice(head);
    out.extend_from_slice(b"Content-Type: multipart/mixed; boundary=\"b0\"\r\n\r\n--b0\r\n");
    out.extend_from_slice(body);
    out.extend_from_slice(
        b"\r\n--b0\r\nContent-Type: application/pdf; name=\"scan.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\
          Content-Disposition: attachment; filename=\"scan.pdf\"\r\n\r\nJVBERi0x",
    );
    let mut seed = number;
    let mut column = 8;
    while out.len() < octets {
        seed = step(seed);
        out.extend((0..5).map(|digit| BASE64[(seed >> (24 + 6 * digit)) & 63]));
        column += 5;
        if column > 70 {
            out.extend_from_slice(b"\r\n");
            column = 0;
        }
    }
    out.extend_from_slice(b"\r\n--b0--\r\n");
    out
}

/// A linear congruential generator: different texts, the same in every run.
const fn step(seed: usize) -> usize {
    seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407)
}

fn words(text: &mut String, octets: usize, seed: &mut usize) {
    let end = text.len() + octets;
    let mut column = 0;
    while text.len() < end {
        *seed = step(*seed);
        let word = word(rank(*seed >> 33));
        text.push_str(&word);
        column += word.len() + 1;
        text.push_str(if column > 64 { "\r\n" } else { " " });
        column = if column > 64 { 0 } else { column };
    }
}

/// Few words are frequent and most are rare, as in any language (Zipf): the n-th is taken once where the first is n
/// times, out of [`RANKS`].
fn rank(random: usize) -> usize {
    let octave = random % RANKS.ilog2() as usize;
    (1 << octave) + (random >> 8) % (1 << octave)
}

fn word(rank: usize) -> String {
    if let Some(word) = WORDS.get(rank) {
        return (*word).to_owned();
    }
    let (mut left, mut word) = (rank, String::new());
    while left > 0 {
        word.push_str(SYLLABLES.get(left % SYLLABLES.len()).copied().unwrap_or_default());
        left /= SYLLABLES.len();
    }
    word
}

pub(crate) fn contact(n: usize) -> String {
    format!("patient-{n}@web-post.test")
}

/// User and system time of a process (proc(5), fields 14 and 15 of stat).
pub(crate) fn cpu_of(process: &str) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no stat")?;
    let ticks =
        |n: usize| -> Result<u32> { Ok(fields.split_whitespace().nth(n).context("no stat")?.parse()?) };
    // USER_HZ is 100 on every Linux architecture in use.
    Ok(Duration::from_millis(10) * (ticks(11)? + ticks(12)?))
}

const MAX_TEXT_OCTETS: usize = 64 * 1024;
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Words of the vocabulary: a mail of 10 KB holds some 430 different ones in each of its two texts.
const RANKS: usize = 1 << 15;
const SYLLABLES: [&str; 24] = [
    "ba", "cor", "den", "el", "fi", "gan", "hor", "is", "jo", "kel", "la", "mer", "nu", "ot", "per", "qua",
    "ri", "sen", "ta", "um", "ver", "wil", "xo", "zan",
];
const WORDS: [&str; 32] = [
    "shoulder",
    "exercise",
    "morning",
    "evening",
    "slowly",
    "repeat",
    "appointment",
    "please",
    "Thursday",
    "pain",
    "rest",
    "water",
    "the",
    "and",
    "with",
    "for",
    "twice",
    "report",
    "result",
    "laboratory",
    "insurance",
    "bring",
    "papers",
    "next",
    "week",
    "kind",
    "regards",
    "practice",
    "feel",
    "better",
    "stairs",
    "walk",
];
