//! Replays what the fuzz targets have learned: the seeds of `fixtures/fuzz/<target>/`, the mended findings among them,
//! and the dialogues that another server's fuzzer collected. No fuzzer is needed.
#![expect(clippy::unwrap_used, reason = "a test: a broken seed must stop it")]

#[expect(unreachable_pub, reason = "the fuzz package shares it")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::path::{Path, PathBuf};

/// The files of a folder, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn replay(target: &str, run: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz").join(target);
    let seeds = files(&folder);
    assert!(seeds.len() >= 3, "seeds of {target}");
    for seed in seeds {
        let input = std::fs::read(&seed).unwrap();
        println!("{}", seed.display());
        run(&input);
        // Cut short anywhere, it must do no harm either.
        for end in 0..input.len().min(600) {
            run(&input[..end]);
        }
    }
}

#[test]
fn seeds_of_session() {
    replay("session", targets::session);
}

#[test]
fn seeds_of_command_line() {
    replay("command_line", targets::command_line);
}

#[test]
fn seeds_of_path() {
    replay("path", targets::path);
}

#[test]
fn seeds_of_bdat() {
    replay("bdat", targets::bdat);
}

#[test]
fn seeds_of_proxy() {
    replay("proxy", targets::proxy);
}

#[test]
fn seeds_of_header_scan() {
    replay("header_scan", targets::header_scan);
}

#[test]
fn seeds_of_trace_fields() {
    replay("trace_fields", targets::trace_fields);
}

/// Each target of `fuzz/` is replayed here, and each has its seeds.
#[test]
fn every_target_has_seeds_and_a_replay() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = std::fs::read_to_string(file!()).unwrap();
    for target in files(&root.join("fuzz/fuzz_targets")) {
        let name = target.file_stem().unwrap().to_str().unwrap();
        assert!(source.contains(&format!("replay(\"{name}\", targets::{name})")), "{name}");
        assert!(root.join("fixtures/fuzz").join(name).is_dir(), "{name}");
    }
}

#[test]
fn the_dialogues_of_chasquids_fuzzer_do_no_harm() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/smtp/chasquid-fuzz");
    if !folder.is_dir() {
        println!("skipped: {} absent", folder.display());
        return;
    }
    let mut replayed = 0;
    for file in files(&folder) {
        let text = std::fs::read_to_string(&file).unwrap();
        let Some(quoted) = text.split_once("[]byte(\"").and_then(|(_, rest)| rest.rsplit_once("\")")) else {
            continue;
        };
        let said = unquoted(quoted.0);
        // As it stands, with bare LF, and as a client would say it.
        for lines in [said.clone(), with_crlf(&said)] {
            for choice in [0, 3, 8, 46] {
                targets::session(&[&[choice], lines.as_slice()].concat());
            }
        }
        replayed += 1;
    }
    assert!(replayed >= 10, "{replayed} dialogues");
}

/// The octets of a Go string literal.
fn unquoted(literal: &str) -> Vec<u8> {
    let (mut octets, mut chars) = (Vec::new(), literal.chars());
    while let Some(c) = chars.next() {
        if c != '\\' {
            octets.extend_from_slice(c.to_string().as_bytes());
            continue;
        }
        match chars.next() {
            Some('n') => octets.push(b'\n'),
            Some('r') => octets.push(b'\r'),
            Some('t') => octets.push(b'\t'),
            Some('x') => {
                let digits: String = chars.by_ref().take(2).collect();
                octets.push(u8::from_str_radix(&digits, 16).unwrap());
            }
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let c = char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap();
                octets.extend_from_slice(c.to_string().as_bytes());
            }
            Some(other) => octets.extend_from_slice(other.to_string().as_bytes()),
            None => {}
        }
    }
    octets
}

fn with_crlf(said: &[u8]) -> Vec<u8> {
    said.split(|octet| *octet == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..])
}
