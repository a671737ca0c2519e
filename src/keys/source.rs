//! Master keys from outside the key file: a variable of the environment, or what a command prints (for a KMS).
//!
//! Both hold one key a line, `KEY` or `ID KEY`; a comma ends a line too. A key is 32 octets in hexadecimal or base64,
//! an id is the key's own, which is checked. The first key wraps, all open. Promises that neither keys nor what a
//! command says on its standard error are in any error, and that a command is not waited for any longer than
//! [`COMMAND_LIMIT`].

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::config;
use crate::keys::master::{MasterKey, MasterKeyId, Origin};
use crate::keys::{KeyFileError, Secret};

/// The keys of the source that is set; nothing if none is.
pub(super) fn read(settings: &config::KeyFile) -> Result<Vec<MasterKey>, KeyFileError> {
    let (setting, origin, text) = if let Some(name) = &settings.master_env {
        ("keys.master_env", Origin::Environment, variable(name))
    } else if settings.master_command.is_empty() {
        return Ok(Vec::new());
    } else {
        ("keys.master_command", Origin::Command, printed(&settings.master_command, COMMAND_LIMIT))
    };
    text.and_then(|text| parse(&text, origin)).map_err(|detail| KeyFileError::Source { setting, detail })
}

fn variable(name: &str) -> Result<Zeroizing<String>, String> {
    match std::env::var(name) {
        Ok(value) if value.len() <= MAX_OCTETS => Ok(Zeroizing::new(value)),
        Ok(_) => Err(format!("the variable {name} is longer than {MAX_OCTETS} octets")),
        Err(std::env::VarError::NotPresent) => Err(format!("the variable {name} is not set")),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("the variable {name} is no text")),
    }
}

/// What the command prints. No shell looks at it.
fn printed(command: &[String], limit: Duration) -> Result<Zeroizing<String>, String> {
    let (program, arguments) = command.split_first().ok_or("no program")?;
    let ends = Instant::now() + limit;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    let done = collect(&mut child, ends).and_then(|text| match wait(&mut child, ends)? {
        status if status.success() => Ok(text),
        status => Err(format!("failed ({status})")),
    });
    if done.is_err() {
        // It may have ended by itself.
        let _ended = child.kill();
        let _status = child.wait();
    }
    done.map_err(|detail| format!("{program} {detail}"))
}

fn collect(child: &mut Child, ends: Instant) -> Result<Zeroizing<String>, String> {
    let output = child.stdout.take().ok_or("has no output")?;
    let (sender, receiver) = mpsc::sync_channel(1);
    // What the command has started may hold its output open for longer than we wait.
    std::thread::spawn(move || {
        // Never moved while it grows: no copy is left behind.
        let mut text = Zeroizing::new(Vec::with_capacity(2 * MAX_OCTETS));
        let read = output.take(MAX_OCTETS as u64 + 1).read_to_end(&mut text);
        let _gone = sender.send(read.map(|_| text));
    });
    let left = ends.saturating_duration_since(Instant::now());
    let text = receiver.recv_timeout(left).map_err(|_| too_slow())?;
    let mut text = text.map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() > MAX_OCTETS {
        return Err(format!("printed more than {MAX_OCTETS} octets"));
    }
    String::from_utf8(std::mem::take(&mut *text)).map(Zeroizing::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        "printed something that is no text".to_owned()
    })
}

fn wait(child: &mut Child, ends: Instant) -> Result<ExitStatus, String> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < ends => std::thread::sleep(WAIT_PAUSE),
            Ok(None) => return Err(too_slow()),
            Err(error) => return Err(format!("cannot be waited for: {error}")),
        }
    }
}

fn too_slow() -> String {
    format!("took longer than {} s", COMMAND_LIMIT.as_secs())
}

fn parse(text: &str, origin: Origin) -> Result<Vec<MasterKey>, String> {
    let lines = text.split(['\n', ',']).map(str::trim).filter(|line| !line.is_empty());
    let keys = lines.enumerate().map(|(n, line)| {
        parse_line(line, origin).map_err(|detail| format!("master key {}: {detail}", n + 1))
    });
    let keys: Vec<MasterKey> = keys.collect::<Result<_, String>>()?;
    match keys.len() {
        0 => Err("it holds no master key".to_owned()),
        1..=MAX_MASTER_KEYS => Ok(keys),
        _ => Err(format!("it holds more than {MAX_MASTER_KEYS} master keys")),
    }
}

fn parse_line(line: &str, origin: Origin) -> Result<MasterKey, String> {
    let mut words = line.split_whitespace();
    let (id, key) = match (words.next(), words.next(), words.next()) {
        (Some(key), None, None) => (None, key),
        // A word that is no id may be a part of a key: it is not shown.
        (Some(id), Some(key), None) => {
            (Some(id.parse::<MasterKeyId>().map_err(|_| "what stands before it is no key id")?), key)
        }
        _ => return Err("a line is a key, or the id of a key and the key".to_owned()),
    };
    let wrong = || "must be 32 octets in hexadecimal or base64".to_owned();
    let key = MasterKey::new(decode(key).ok_or_else(wrong)?, origin);
    match id {
        Some(id) if id != key.id => Err(format!("it is {}, not {id}", key.id)),
        _ => Ok(key),
    }
}

/// 64 hexadecimal digits, or base64 of either alphabet, with or without its padding.
fn decode(text: &str) -> Option<Secret> {
    let text = text.as_bytes();
    let (digits, bits): (&[u8], u32) = match text {
        [..] if text.len() == 64 => (text, 4),
        [digits @ .., b'='] if digits.len() == 43 => (digits, 6),
        [..] if text.len() == 43 => (text, 6),
        _ => return None,
    };
    let (mut held, mut count) = (0_u32, 0);
    let mut octets = Zeroizing::new([0; 32]);
    let mut places = octets.iter_mut();
    for digit in digits {
        held = (held << bits | value(*digit, bits)?) & 0xffff;
        count += bits;
        if count >= 8 {
            count -= 8;
            *places.next()? = u8::try_from(held >> count & 0xff).ok()?;
        }
    }
    // What is left of the last digit must be nothing.
    (held & ((1 << count) - 1) == 0 && places.next().is_none()).then(|| Secret::from_bytes(*octets))
}

fn value(digit: u8, bits: u32) -> Option<u32> {
    if bits == 4 {
        return char::from(digit).to_digit(16);
    }
    Some(match digit {
        b'A'..=b'Z' => u32::from(digit - b'A'),
        b'a'..=b'z' => u32::from(digit - b'a') + 26,
        b'0'..=b'9' => u32::from(digit - b'0') + 52,
        b'+' | b'-' => 62,
        b'/' | b'_' => 63,
        _ => return None,
    })
}

/// From the start of a command to its end.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(10);
const WAIT_PAUSE: Duration = Duration::from_millis(5);
/// Of a variable or of what a command prints.
const MAX_OCTETS: usize = 4096;
/// At once: the one in use, and those before and behind it.
pub(super) const MAX_MASTER_KEYS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> Result<Vec<MasterKey>, String> {
        let command = ["sh".to_owned(), "-c".to_owned(), text.to_owned()];
        parse(&printed(&command, Duration::from_secs(20))?, Origin::Command)
    }

    fn hex(octet: u8) -> String {
        format!("{octet:02x}").repeat(32)
    }

    #[test]
    fn a_key_is_read_in_hexadecimal_and_in_base64() {
        let key: [u8; 32] = std::array::from_fn(|n| u8::try_from(n * 8 + 3).unwrap());
        let hexadecimal: String = key.iter().map(|octet| format!("{octet:02X}")).collect();
        let base64 = crate::message::base64(&key);
        let url_safe = base64.replace('+', "-").replace('/', "_");
        for text in [&hexadecimal, &base64, &url_safe, base64.trim_end_matches('=')] {
            assert_eq!(decode(text).unwrap().expose(), &key, "{text}");
        }
        for wrong in [
            "",
            hexadecimal.get(1..).unwrap(),
            &format!("{hexadecimal}0"),
            &hexadecimal.replace('0', "g"),
            base64.get(1..).unwrap(),
            &format!("{base64}="),
            &format!("A{base64}"),
            &format!("{}B=", base64.get(..42).unwrap()),
            &base64.replace(base64.get(..1).unwrap(), "*"),
        ] {
            assert!(decode(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn lines_hold_keys_and_ids_that_are_checked() {
        let id = |octet| MasterKeyId::of(&Secret::from_bytes([octet; 32]));
        let text = format!("{}\n\n  {} {}\r\n{},{}\n", hex(1), id(2), hex(2), hex(3), hex(4));
        let keys = parse(&text, Origin::Environment).unwrap();
        assert_eq!(keys.iter().map(|key| key.id).collect::<Vec<_>>(), [id(1), id(2), id(3), id(4)]);
        let refused = |text: &str| parse(text, Origin::Environment).unwrap_err();
        assert_eq!(refused(" \n"), "it holds no master key");
        assert!(refused(&format!("{} {}", id(1), hex(2))).contains(&format!(
            "it is {}, not {}",
            id(2),
            id(1)
        )));
        for secret in ["5ec12e75ec12e7", &format!("{} 5ec12e7", hex(9)), &format!("a b {}", hex(9))] {
            let said = refused(secret);
            assert!(
                said.starts_with("master key 1: ") && !said.contains("5ec12e7") && !said.contains("0909"),
                "{said}"
            );
        }
        let many = (1..=17).map(hex).collect::<Vec<_>>();
        assert_eq!(parse(&many[..16].join("\n"), Origin::File).unwrap().len(), MAX_MASTER_KEYS);
        assert!(refused(&many.join("\n")).contains("more than 16"));
    }

    #[test]
    fn a_command_is_heard_within_its_bounds() {
        assert_eq!(script(&format!("echo {}", hex(1))).unwrap().len(), 1);
        let refused = |text: &str| script(text).unwrap_err();
        assert!(refused("echo 5ec12e7 >&2; exit 3").contains("exit status: 3"));
        assert!(!refused("echo 5ec12e7 >&2; exit 3").contains("5ec12e7"));
        assert!(refused("exit 0").contains("no master key"));
        assert!(refused("printf '\\377'").contains("no text"));
        // To its limit, and one past it.
        assert_eq!(script(&format!("printf '%4096s' {}", hex(1))).unwrap().len(), 1);
        assert!(refused(&format!("printf '%4097s' {}", hex(1))).contains("more than 4096 octets"));
        assert!(refused("yes").contains("more than 4096 octets"));
        let missing = printed(&["/nowhere/at/all".to_owned()], COMMAND_LIMIT).unwrap_err();
        assert!(missing.contains("cannot be started"), "{missing}");
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        for text in ["exec sleep 600", "exec >&-; exec sleep 600", "sleep 3 & exit 0"] {
            let command = ["sh".to_owned(), "-c".to_owned(), text.to_owned()];
            let said = printed(&command, Duration::from_millis(50)).unwrap_err();
            assert!(said.contains("took longer"), "{text}: {said}");
        }
    }

    #[test]
    fn what_is_not_set_is_named() {
        let settings = config::KeyFile {
            master_env: Some("SYNCMX_TEST_NO_SUCH_VARIABLE".to_owned()),
            ..config::KeyFile::default()
        };
        let said = read(&settings).unwrap_err().to_string();
        assert_eq!(said, "keys.master_env: the variable SYNCMX_TEST_NO_SUCH_VARIABLE is not set");
    }
}
