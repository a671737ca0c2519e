//! File names that strangers chose, made safe for any file system and any reader.
//!
//! Promises one path segment that is no path, no device, not hidden, not longer than [`NAME_MAX_OCTETS`], and no other
//! than it looks; and that no two names of one folder are the same where case does not count.

use std::collections::HashSet;

/// The names of one folder.
#[derive(Debug, Default)]
pub(super) struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// A safe name made of `wanted`; of `otherwise` where nothing is left of it.
    pub(super) fn take(&mut self, wanted: &str, otherwise: &str) -> String {
        let clean = clean(wanted);
        let clean = if clean.is_empty() { otherwise.to_owned() } else { clean };
        let (stem, extension) = split(&clean);
        let mut name = cut(stem, extension, "");
        let mut number = 1;
        while !self.taken.insert(name.to_lowercase()) {
            number += 1;
            name = cut(stem, extension, &format!(" ({number})"));
        }
        name
    }
}

/// What is left of a name without what could lead elsewhere or deceive.
fn clean(wanted: &str) -> String {
    // Of a path, its end.
    let last = wanted.rsplit(['/', '\\']).find(|part| !part.trim_matches([' ', '.']).is_empty());
    let kept = last.unwrap_or_default().chars().filter(|c| !is_unseen(*c)).map(|c| {
        let is_special = c.is_control() || "<>:\"|?*\u{2028}\u{2029}".contains(c);
        if is_special { '_' } else { c }
    });
    let name: String = kept.collect();
    // Windows takes dots and spaces away at the end; a dot in front hides, a dash looks like an option.
    let is_hollow = |c: char| c == '.' || c.is_whitespace();
    let name = name.trim_start_matches(|c: char| c == '-' || is_hollow(c)).trim_end_matches(is_hollow);
    if is_device(name) { format!("_{name}") } else { name.to_owned() }
}

/// Turns the direction of writing, or shows nothing: `annexe\u{202e}fdp.exe` looks like a document.
const fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Names of devices on Windows, with any extension.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    if ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"].contains(&stem.as_str()) {
        return true;
    }
    let number = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    number.is_some_and(|number| {
        let mut digits = number.chars();
        let is_digit = |c: char| c.is_ascii_digit() || "¹²³".contains(c);
        digits.next().is_some_and(is_digit) && digits.next().is_none()
    })
}

/// An extension of more than some letters is part of the name.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.').and_then(|dot| name.split_at_checked(dot)) {
        Some((stem, extension)) if extension.len() <= EXTENSION_MAX_OCTETS && !stem.is_empty() => {
            (stem, extension)
        }
        Some(_) | None => (name, ""),
    }
}

/// Stem, number and extension within the limit: the stem is cut, between characters.
fn cut(stem: &str, extension: &str, number: &str) -> String {
    let room = NAME_MAX_OCTETS.saturating_sub(extension.len() + number.len());
    let mut end = stem.len().min(room);
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    let stem = stem.get(..end).unwrap_or_default().trim_end();
    format!("{stem}{number}{extension}")
}

/// ext4, NTFS and APFS take 255; what a tool adds to it (`.part`, ` - copy`) must fit too.
pub(super) const NAME_MAX_OCTETS: usize = 200;
const EXTENSION_MAX_OCTETS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wanted: &str, expected: &str) {
        assert_eq!(Names::default().take(wanted, "file"), expected, "{wanted:?}");
    }

    #[test]
    fn a_name_is_never_a_path() {
        check("../../etc/passwd", "passwd");
        check("..\\..\\boot.ini", "boot.ini");
        check("C:\\Users\\Ana\\scan.pdf", "scan.pdf");
        check("C:scan.pdf", "C_scan.pdf");
        check("/", "file");
        check("..", "file");
        check("a/..", "a");
        check("", "file");
        check("a\0b\r\n.pdf", "a_b__.pdf");
        check("scan.pdf::$DATA", "scan.pdf__$DATA");
    }

    #[test]
    fn a_name_is_what_it_looks_like() {
        check("annexe\u{202e}fdp.exe", "annexefdp.exe");
        check("in\u{200b}voice\u{2066}.pdf\u{2069}", "invoice.pdf");
        check("\u{feff}Gr\u{fc}\u{df}e.txt", "Gr\u{fc}\u{df}e.txt");
        check("\u{202e}", "file");
    }

    #[test]
    fn a_name_is_no_device_no_option_and_not_hidden() {
        for device in ["CON", "nul.txt", "Aux", "com1", "LPT9.tar.gz", "COM¹"] {
            check(device, &format!("_{device}"));
        }
        check("prn .txt", "_prn.txt");
        for harmless in ["CONTRACT.pdf", "COM10", "COM", "nulls.txt"] {
            check(harmless, harmless);
        }
        check(".bashrc", "bashrc");
        check("--help", "help");
        for hidden in ["-.bashrc", ".-.bashrc", "- -bashrc", ". -. -bashrc", "\u{200b}-.\u{200b}-bashrc"] {
            check(hidden, "bashrc");
        }
        check("-. -", "file");
        check("report. . .", "report");
        check(" a.pdf ", "a.pdf");
    }

    #[test]
    fn a_name_has_at_most_so_many_octets_and_keeps_its_extension() {
        for (letter, octets) in [("a", 1), ("\u{fc}", 2), ("\u{1f600}", 4)] {
            let at_limit = letter.repeat((NAME_MAX_OCTETS - 4) / octets);
            check(&format!("{at_limit}.pdf"), &format!("{at_limit}.pdf"));
            check(&format!("{at_limit}{letter}.pdf"), &format!("{at_limit}.pdf"));
        }
        let long = "a".repeat(500);
        let mut names = Names::default();
        let taken = [names.take(&long, "file"), names.take(&long, "file")];
        assert!(taken.iter().all(|name| name.len() <= NAME_MAX_OCTETS) && taken[0] != taken[1]);
    }

    #[test]
    fn no_two_names_of_a_folder_are_the_same() {
        let mut names = Names::default();
        let taken: Vec<String> = ["a.pdf", "A.PDF", "a.pdf", "a (2).pdf", "", ""]
            .iter()
            .map(|name| names.take(name, "file"))
            .collect();
        assert_eq!(taken, ["a.pdf", "A (2).PDF", "a (3).pdf", "a (2) (2).pdf", "file", "file (2)"]);
    }
}
