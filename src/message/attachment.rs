//! Attachments: every part that is not the body, named safely, measured and hashed after decoding.
//!
//! A nested message is one attachment, its octets byte-exact. Nothing is executed, unpacked or believed: the
//! content tells the type (R57), the name is cleaned.

use std::borrow::Cow;

use super::addresses::is_direction_mark;
use super::body::{self, Role};
use super::fields::clean_line;
use super::file_type::Judged;
use super::params::{self, Parameterised};
use super::scan::{MAX_PARTS, Part, Shape, Tree};
use super::{Attachment, charset, digest, file_type, ids, tnef};

impl Part<'_> {
    /// Content-Disposition.
    pub(super) fn disposition(&self) -> Parameterised {
        self.fields.last("content-disposition").map(params::parse).unwrap_or_default()
    }

    fn content_id(&self) -> Option<String> {
        let raw = self.fields.last("content-id")?;
        ids::own(raw)
    }
}

/// Where an attachment's octets stand.
pub(super) enum Item {
    /// A part of the message.
    Part(usize),
    /// A file inside the `winmail.dat` that this part is.
    Tnef(usize, tnef::File),
}

/// The attachments in order: the n-th is attachment `n`. R57: `winmail.dat` is replaced by the files inside it, as long
/// as the message has no more than [`MAX_PARTS`] of both; one that holds too many stays as it came.
pub(super) fn items(tree: &Tree<'_>) -> Vec<Item> {
    let mut out = Vec::new();
    let parts: Vec<usize> = body::leaves(tree)
        .into_iter()
        .filter(|(_, role)| *role == Role::Attachment)
        .map(|(index, _)| index)
        .collect();
    for (at, index) in parts.iter().copied().enumerate() {
        let behind = parts.len() - at - 1;
        let room = MAX_PARTS.saturating_sub(out.len() + behind);
        let files = if is_tnef(&tree.parts[index]) { tnef::read(&tree.decoded(index)) } else { None };
        match files.map(|contents| contents.files).unwrap_or_default() {
            files if files.is_empty() || files.len() > room => out.push(Item::Part(index)),
            files => out.extend(files.into_iter().map(|file| Item::Tnef(index, file))),
        }
    }
    out
}

/// Whether a part is Outlook's wrapping.
pub(super) fn is_tnef(part: &Part<'_>) -> bool {
    let is_named = || {
        let disposition = part.disposition();
        let name = disposition.param("filename").or_else(|| part.content_type.param("name"));
        name.is_some_and(|name| name.eq_ignore_ascii_case("winmail.dat"))
    };
    matches!(part.content_type.value.as_str(), "application/ms-tnef" | "application/vnd.ms-tnef")
        || is_named()
}

/// Describes them all.
pub(super) fn list(tree: &Tree<'_>, items: &[Item]) -> Vec<Attachment> {
    list_with(tree, items, |index| tree.decoded(index))
}

/// The same; a stream of Outlook's is decoded once for all the files in it, which follow each other.
fn list_with<'a>(
    tree: &Tree<'_>,
    items: &[Item],
    mut decode: impl FnMut(usize) -> Cow<'a, [u8]>,
) -> Vec<Attachment> {
    let mut stream: (Option<usize>, Cow<'_, [u8]>) = (None, Cow::Borrowed(&[]));
    let mut out = Vec::with_capacity(items.len());
    for (n, item) in items.iter().enumerate() {
        out.push(match item {
            Item::Part(index) => describe(tree, n, *index),
            Item::Tnef(index, file) => {
                if stream.0 != Some(*index) {
                    stream = (Some(*index), decode(*index));
                }
                describe_file(&stream.1, n, file)
            }
        });
    }
    out
}

/// The octets of attachment `n`.
pub(super) fn open<'a>(tree: &Tree<'a>, n: usize) -> Option<Cow<'a, [u8]>> {
    items(tree).get(n).and_then(|item| match item {
        Item::Part(index) => Some(tree.decoded(*index)),
        Item::Tnef(index, file) => {
            tree.decoded(*index).get(file.octets.clone()).map(|octets| Cow::Owned(octets.to_vec()))
        }
    })
}

fn describe_file(stream: &[u8], n: usize, file: &tnef::File) -> Attachment {
    let octets = stream.get(file.octets.clone()).unwrap_or_default();
    let name = clean_name(&file.name);
    let judged =
        file_type::judge(&clean_type(&file.content_type), name.as_deref().unwrap_or_default(), octets);
    let id = file.content_id.as_deref().and_then(|id| ids::own(id.as_bytes()));
    Attachment {
        n,
        filename: name.unwrap_or_else(|| made_up_name(&judged.content_type)),
        size: octets.len() as u64,
        sha256: digest::sha256(octets),
        inline: id.is_some(),
        content_id: id,
        content_type: judged.content_type,
        detected: judged.detected,
        is_program: judged.is_program,
        mismatch: judged.mismatch,
    }
}

fn describe(tree: &Tree<'_>, n: usize, index: usize) -> Attachment {
    let octets = tree.decoded(index);
    let part = &tree.parts[index];
    let disposition = part.disposition();
    let content_id = part.content_id();
    let declared = disposition.param("filename").or_else(|| part.content_type.param("name"));
    let content_type = clean_type(&part.content_type.value);
    let name = declared.and_then(clean_name);
    let judged = if part.shape == Shape::Leaf {
        file_type::judge(&content_type, name.as_deref().unwrap_or_default(), &octets)
    } else {
        Judged { content_type, ..Judged::default() }
    };
    Attachment {
        n,
        filename: name
            .or_else(|| (part.shape == Shape::Message).then(|| nested_name(tree, index)).flatten())
            .unwrap_or_else(|| made_up_name(&judged.content_type)),
        size: octets.len() as u64,
        sha256: digest::sha256(&octets),
        inline: disposition.value == "inline" || (disposition.value.is_empty() && content_id.is_some()),
        content_id,
        content_type: judged.content_type,
        detected: judged.detected,
        is_program: judged.is_program,
        mismatch: judged.mismatch,
    }
}

/// A type for a response header: what cannot be one is an octet stream.
fn clean_type(declared: &str) -> String {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$&-^_.+/".contains(c);
    let is_type =
        declared.split('/').filter(|half| !half.is_empty()).count() == 2 && declared.chars().all(is_token);
    if is_type && declared.matches('/').count() == 1 {
        declared.to_owned()
    } else {
        "application/octet-stream".to_owned()
    }
}

/// The last component of a path, without control characters and direction marks (R57, SMTP M13).
pub(super) fn clean_name(declared: &str) -> Option<String> {
    let line = clean_line(declared);
    let last = line.rsplit(['/', '\\']).find(|component| !component.trim().is_empty())?;
    let kept: String =
        last.chars().filter(|c| !is_direction_mark(*c) && !matches!(c, '\u{200b}' | '\u{feff}')).collect();
    let kept = kept.trim();
    let is_dots = kept.chars().all(|c| c == '.');
    (!kept.is_empty() && !is_dots).then(|| shorten(kept))
}

/// At most [`MAX_NAME_OCTETS`], the extension kept.
fn shorten(name: &str) -> String {
    if name.len() <= MAX_NAME_OCTETS {
        return name.to_owned();
    }
    let extension = name.rsplit_once('.').map(|(_, e)| e).filter(|e| e.len() <= 16).unwrap_or_default();
    let mut end = MAX_NAME_OCTETS - extension.len() - 1;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let stem = name.get(..end).unwrap_or_default();
    if extension.is_empty() { stem.to_owned() } else { format!("{stem}.{extension}") }
}

/// A nested message is named after its subject.
fn nested_name(tree: &Tree<'_>, index: usize) -> Option<String> {
    let child = tree.children(index).next()?;
    let subject = tree.parts.get(child)?.fields.readable("subject")?;
    let plain: String = charset::without_nul(Cow::Owned(subject))
        .chars()
        .map(|c| if matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|') { '_' } else { c })
        .take(80)
        .collect();
    clean_name(&plain).map(|name| format!("{name}.eml"))
}

/// A name for a part that has none.
fn made_up_name(content_type: &str) -> String {
    let known = EXTENSIONS.iter().find(|(known, _)| *known == content_type).map(|(_, extension)| *extension);
    let extension = known.unwrap_or_else(|| match content_type.split('/').next() {
        Some("text") => "txt",
        _ => "bin",
    });
    format!("attachment.{extension}")
}

/// File systems hold no longer names.
pub(super) const MAX_NAME_OCTETS: usize = 255;

const EXTENSIONS: [(&str, &str); 32] = [
    ("application/json", "json"),
    ("application/msword", "doc"),
    ("application/ms-tnef", "dat"),
    ("application/pdf", "pdf"),
    ("application/pgp-encrypted", "asc"),
    ("application/pgp-keys", "asc"),
    ("application/pgp-signature", "asc"),
    ("application/pkcs7-mime", "p7m"),
    ("application/pkcs7-signature", "p7s"),
    ("application/rtf", "rtf"),
    ("application/vnd.ms-excel", "xls"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
    ("application/x-pkcs7-mime", "p7m"),
    ("application/x-pkcs7-signature", "p7s"),
    ("application/xml", "xml"),
    ("application/zip", "zip"),
    ("audio/mpeg", "mp3"),
    ("image/bmp", "bmp"),
    ("image/gif", "gif"),
    ("image/heic", "heic"),
    ("image/jpeg", "jpg"),
    ("image/png", "png"),
    ("image/svg+xml", "svg"),
    ("image/tiff", "tif"),
    ("image/webp", "webp"),
    ("message/delivery-status", "txt"),
    ("message/rfc822", "eml"),
    ("text/calendar", "ics"),
    ("text/csv", "csv"),
    ("text/html", "html"),
    ("text/vcard", "vcf"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(declared: &str, expected: Option<&str>) {
        assert_eq!(clean_name(declared).as_deref(), expected, "{declared:?}");
    }

    #[test]
    fn r57_names_lose_paths_control_characters_and_direction_marks() {
        check("report.pdf", Some("report.pdf"));
        check("../../etc/passwd", Some("passwd"));
        check("C:\\x\\y.doc", Some("y.doc"));
        check("a\0b\r\nc.txt", Some("ab  c.txt"));
        check("invoice\u{202e}fdp.exe", Some("invoicefdp.exe"));
        check("..", None);
        check("a/", Some("a"));
        check("  ", None);
    }

    #[test]
    fn m13_a_name_of_255_octets_is_kept_and_a_longer_one_keeps_its_extension() {
        let name = |n: usize| format!("{}.pdf", "ü".repeat((n - 5) / 2) + "x");
        assert_eq!(clean_name(&name(255)).map(|n| n.len()), Some(255));
        let short = clean_name(&name(257)).unwrap_or_default();
        assert!(short.len() <= MAX_NAME_OCTETS && short.ends_with(".pdf"), "{short}");
    }

    /// A stream of empty files with a name, in base64.
    fn stream_of(files: usize) -> String {
        let mut stream = b"\x78\x9f\x3e\x22\0\0".to_vec();
        for _ in 0..files {
            // The record that opens a file, and its title.
            stream.extend_from_slice(b"\x02\x02\x90\x06\0\0\0\0\0\0\0");
            stream.extend_from_slice(b"\x02\x10\x80\x01\0\x02\0\0\0a\0\0\0");
        }
        String::from_utf8(super::super::encode::base64_lines(&stream)).unwrap()
    }

    fn mail_of(streams: &[usize]) -> String {
        let part = |files: &usize| {
            format!(
                "--b\r\nContent-Type: application/ms-tnef; name=winmail.dat\r\nContent-Transfer-Encoding: base64\r\n\r\n{}\r\n",
                stream_of(*files)
            )
        };
        let parts: String = streams.iter().map(part).collect();
        format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{parts}--b--\r\n")
    }

    #[test]
    fn m9_files_inside_streams_count_as_parts_and_a_stream_over_the_limit_stays_whole() {
        let names = |streams: &[usize]| {
            let raw = mail_of(streams);
            let tree = Tree::scan(raw.as_bytes()).unwrap();
            let all = list(&tree, &items(&tree));
            assert!(all.len() <= MAX_PARTS && open(&tree, all.len()).is_none());
            let last = all.last().unwrap();
            assert_eq!(open(&tree, last.n).unwrap().len() as u64, last.size);
            let whole = all.iter().filter(|file| file.filename == "winmail.dat").count();
            (whole, all.len() - whole)
        };
        assert_eq!(names(&[MAX_PARTS]), (0, MAX_PARTS));
        assert_eq!(names(&[MAX_PARTS + 1]), (1, 0));
        assert_eq!(names(&[MAX_PARTS * 2]), (1, 0));
        assert_eq!(names(&[600, 400]), (0, MAX_PARTS));
        // The second must have room, too, if only as it came.
        assert_eq!(names(&[600, 401]), (1, 600));
        assert_eq!(names(&[1, MAX_PARTS, 2]), (1, 3));
    }

    #[test]
    fn m10_a_stream_is_decoded_once_for_all_of_its_files() {
        let raw = mail_of(&[300, 400]);
        let tree = Tree::scan(raw.as_bytes()).unwrap();
        let mut decoded = Vec::new();
        let all = list_with(&tree, &items(&tree), |index| {
            decoded.push(index);
            tree.decoded(index)
        });
        assert_eq!((all.len(), decoded), (700, vec![1, 2]));
    }
}
