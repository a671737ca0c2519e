//! An account's export, read back: manifest, rows, messages.
//!
//! Promises that no path leads out of the folder (every one is made here, none is taken from a file), that no line is
//! longer than [`MAX_LINE_OCTETS`] and no content larger than a message may be, whatever the export says of itself, and
//! that what is wrong is said with file and line.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use crate::cli::transfer::{
    ACCOUNT, CONTACT, Entry, FORMAT, Header, MANIFEST, MAX_LINE_OCTETS, content_path, hex, rows_path,
};
use crate::store::lines::{ContentFile, Kind};

/// The folder, and what its manifest says.
#[derive(Debug)]
pub(super) struct Reader {
    folder: PathBuf,
    pub(super) header: Header,
    /// One for each kind, in their order.
    rows: Vec<Entry>,
    /// Files that could not be exported.
    pub(super) problems: u64,
    /// Octets of a message.
    max_content: u64,
}

/// The lines of one file.
pub(super) struct Rows {
    path: String,
    file: BufReader<File>,
    context: Context,
    size: u64,
    /// The number of the last line, from 1.
    pub(super) line: u64,
    limit: u64,
    expected: Option<Entry>,
}

impl Reader {
    /// Reads the manifest. Messages may be as large as those that are taken here, and always as [`MAX_CONTENT_OCTETS`].
    pub(super) fn open(folder: &Path, max_message_octets: u64) -> Result<Self, String> {
        let max_content = max_message_octets.saturating_add(MAX_ADDED_OCTETS).max(MAX_CONTENT_OCTETS);
        let mut lines = Rows::open(folder, MANIFEST.to_owned(), MAX_MANIFEST_LINE_OCTETS)?;
        let first = lines.next()?.ok_or_else(|| format!("{MANIFEST} is empty"))?;
        let header = header(&first).map_err(|why| lines.at(&why))?;
        let mut reader =
            Self { folder: folder.to_owned(), header, rows: Vec::new(), problems: 0, max_content };
        let mut found: Vec<Option<Entry>> = vec![None; Kind::ALL.len()];
        loop {
            let line = lines.next()?.ok_or_else(|| format!("{MANIFEST} ends in the middle"))?;
            if line == "]}" {
                break;
            }
            let entry: Result<Entry, _> = serde_json::from_str(line.strip_suffix(',').unwrap_or(&line));
            let entry = entry.map_err(|error| lines.at(&format!("it names no file: {error}")))?;
            let place = place_of(&entry.path).ok_or_else(|| lines.at("its path is none of an export"))?;
            reader.problems += u64::from(entry.problem.is_some());
            if let Place::Rows(n) = place
                && entry.problem.is_none()
                && let Some(slot) = found.get_mut(n)
            {
                *slot = Some(entry);
            }
        }
        if lines.next()?.is_some() {
            return Err(lines.at("there is something behind its end"));
        }
        for (entry, kind) in found.into_iter().zip(Kind::ALL) {
            reader.rows.push(entry.ok_or_else(|| format!("{MANIFEST} does not name {}", rows_path(*kind)))?);
        }
        Ok(reader)
    }

    /// The lines of a kind; at their end they have proven to be those that the manifest names.
    pub(super) fn rows(&self, kind: Kind) -> Result<Rows, String> {
        let path = rows_path(kind);
        let mut rows = Rows::open(&self.folder, path.clone(), MAX_LINE_OCTETS)?;
        rows.expected = self.rows.iter().find(|entry| entry.path == path).cloned();
        Ok(rows)
    }

    /// Whether the content of a line is there and what it is to be.
    pub(super) fn check_content(&self, kind: Kind, id: Uuid, named: &ContentFile) -> Result<(), String> {
        let path = content_path(kind, id);
        self.refuse_large(&path, named)?;
        let mut file = open(&self.folder, &path)?;
        let mut context = Context::new(&SHA256);
        let mut buffer = vec![0; BUFFER_OCTETS];
        let mut size = 0;
        loop {
            let read = file.read(&mut buffer).map_err(|error| unreadable(&path, &error))?;
            let Some(octets) = buffer.get(..read).filter(|octets| !octets.is_empty()) else { break };
            size += octets.len() as u64;
            if size > named.size {
                break;
            }
            context.update(octets);
        }
        is_what_was_written(&path, named, size, &hex(context.finish().as_ref()))
    }

    /// The content of a line.
    pub(super) fn content(&self, kind: Kind, id: Uuid, named: &ContentFile) -> Result<Bytes, String> {
        let path = content_path(kind, id);
        self.refuse_large(&path, named)?;
        let mut octets = Vec::new();
        let mut file = open(&self.folder, &path)?.take(named.size.saturating_add(1));
        file.read_to_end(&mut octets).map_err(|error| unreadable(&path, &error))?;
        let mut context = Context::new(&SHA256);
        context.update(&octets);
        is_what_was_written(&path, named, octets.len() as u64, &hex(context.finish().as_ref()))?;
        Ok(octets.into())
    }

    /// What an export says of a size is not believed: all of a content is in memory at once.
    fn refuse_large(&self, path: &str, named: &ContentFile) -> Result<(), String> {
        if named.size <= self.max_content {
            return Ok(());
        }
        Err(format!(
            "{path} is to have {} octets, and none of more than {} is taken (smtp.max_message_size allows more)",
            named.size, self.max_content
        ))
    }
}

impl Rows {
    fn open(folder: &Path, path: String, limit: u64) -> Result<Self, String> {
        let file = BufReader::new(open(folder, &path)?);
        Ok(Self { path, file, context: Context::new(&SHA256), size: 0, line: 0, limit, expected: None })
    }

    /// The next line without its end; none behind the last.
    pub(super) fn next(&mut self) -> Result<Option<String>, String> {
        let mut octets = Vec::new();
        let read = (&mut self.file).take(self.limit).read_until(b'\n', &mut octets);
        let read = read.map_err(|error| unreadable(&self.path, &error))?;
        if read == 0 {
            return self.finish().map(|()| None);
        }
        self.line += 1;
        self.size += read as u64;
        self.context.update(&octets);
        if octets.pop() != Some(b'\n') {
            let limit = self.limit;
            let is_long = read as u64 >= limit;
            let why = if is_long {
                format!("it is longer than {limit} octets")
            } else {
                "it is cut off".to_owned()
            };
            return Err(self.at(&why));
        }
        String::from_utf8(octets).map(Some).map_err(|_| self.at("it is not UTF-8"))
    }

    /// Something is wrong with the last line.
    pub(super) fn at(&self, why: &str) -> String {
        format!("{}, line {}: {why}", self.path, self.line)
    }

    fn finish(&mut self) -> Result<(), String> {
        let Some(expected) = &self.expected else { return Ok(()) };
        let context = std::mem::replace(&mut self.context, Context::new(&SHA256));
        if expected.lines.is_some_and(|lines| lines != self.line) {
            return Err(format!("{} has {} lines, not those that {MANIFEST} names", self.path, self.line));
        }
        let named = ContentFile {
            size: expected.size.unwrap_or_default(),
            sha256: expected.sha256.clone().unwrap_or_default(),
        };
        is_what_was_written(&self.path, &named, self.size, &hex(context.finish().as_ref()))
    }
}

/// What a path of the manifest is for.
enum Place {
    Other,
    /// The rows of a kind, by its place in [`Kind::ALL`].
    Rows(usize),
}

/// None for a path that no export has.
fn place_of(path: &str) -> Option<Place> {
    if path == "README.txt" {
        return Some(Place::Other);
    }
    if let Some(n) = Kind::ALL.iter().position(|kind| rows_path(*kind) == path) {
        return Some(Place::Rows(n));
    }
    let id = path.rsplit('/').next()?.strip_suffix(".eml")?;
    let id = Uuid::try_parse(id).ok()?;
    [Kind::Held, Kind::Messages]
        .into_iter()
        .find(|kind| content_path(*kind, id) == path)
        .map(|_| Place::Other)
}

/// The first line: the header, and the beginning of the list.
fn header(line: &str) -> Result<Header, String> {
    let open = line.strip_suffix(",\"files\":[").ok_or("it is not as an export writes it")?;
    let value: Value = serde_json::from_str(&format!("{open}}}")).map_err(|error| error.to_string())?;
    match value.get("format").and_then(Value::as_u64) {
        Some(FORMAT) => {}
        Some(newer) if newer > FORMAT => {
            return Err(format!(
                "its format is {newer}, and this program knows none after {FORMAT}: take a newer one"
            ));
        }
        Some(_) | None => return Err("its format is none".to_owned()),
    }
    match value.get("kind").and_then(Value::as_str) {
        Some(ACCOUNT) => {}
        Some(CONTACT) => {
            return Err("it is the record of one contact, for people: a whole account alone can be imported"
                .to_owned());
        }
        Some(_) | None => return Err("its kind is none".to_owned()),
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// A plain file, not what a link leads to.
fn open(folder: &Path, path: &str) -> Result<File, String> {
    let place = folder.join(path);
    let kind = fs::symlink_metadata(&place).map_err(|error| unreadable(path, &error))?;
    if !kind.is_file() {
        return Err(format!("{path} is no file"));
    }
    File::open(place).map_err(|error| unreadable(path, &error))
}

fn is_what_was_written(path: &str, named: &ContentFile, size: u64, sha256: &str) -> Result<(), String> {
    if size != named.size {
        return Err(format!("{path} has not got the {} octets that it had", named.size));
    }
    if sha256 != named.sha256 {
        return Err(format!("{path} was changed: its SHA-256 is another one"));
    }
    Ok(())
}

fn unreadable(path: &str, error: &io::Error) -> String {
    format!("cannot read {path}: {error}")
}

const MAX_MANIFEST_LINE_OCTETS: u64 = 64 * 1024;
/// Of a message, where `smtp.max_message_size` is less.
const MAX_CONTENT_OCTETS: u64 = 256 * 1024 * 1024;
/// What the server sets above a message that it takes.
const MAX_ADDED_OCTETS: u64 = 1024 * 1024;
const BUFFER_OCTETS: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_no_export_has_is_refused() {
        let id = Uuid::now_v7();
        let good = content_path(Kind::Messages, id);
        assert!(place_of(&good).is_some() && place_of("rows/users.ndjson").is_some());
        let shelf = good.split('/').nth(1).unwrap();
        for bad in [
            "",
            "/etc/passwd",
            "../../etc/passwd",
            "rows/../rows/users.ndjson",
            "rows/tokens.ndjson",
            &format!("messages/{id}.eml"),
            &format!("messages/../messages/{shelf}/{id}.eml"),
            &good.to_uppercase(),
            &format!("{good}\0"),
        ] {
            assert!(place_of(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_line_may_be_as_long_as_the_limit_and_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        for (length, is_taken) in [(9, true), (10, false), (1000, false)] {
            fs::write(folder.path().join("x"), format!("{}\n", "a".repeat(length))).unwrap();
            let line = Rows::open(folder.path(), "x".to_owned(), 10).unwrap().next();
            assert_eq!(line.is_ok(), is_taken, "{length}: {line:?}");
        }
        fs::write(folder.path().join("x"), "abc").unwrap();
        let cut = Rows::open(folder.path(), "x".to_owned(), 10).unwrap().next().unwrap_err();
        assert_eq!(cut, "x, line 1: it is cut off");
    }

    #[test]
    fn content_is_as_large_as_the_limit_and_no_larger() {
        let folder = tempfile::tempdir().unwrap();
        let (kind, id) = (Kind::Messages, Uuid::now_v7());
        let place = folder.path().join(content_path(kind, id));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, "0123456789").unwrap();
        let header = Header {
            format: FORMAT,
            kind: ACCOUNT.to_owned(),
            account_id: Uuid::nil(),
            export_id: Uuid::nil(),
            made_at: String::new(),
            made_by: String::new(),
            keys: crate::cli::transfer::KeyNames { address_hash: String::new(), reply_tokens: Vec::new() },
            sync_domains: Vec::new(),
            reply_domains: Vec::new(),
        };
        let folder = folder.path().to_owned();
        let mut reader = Reader { folder, header, rows: Vec::new(), problems: 0, max_content: 10 };
        let named =
            ContentFile { size: 10, sha256: hex(aws_lc_rs::digest::digest(&SHA256, b"0123456789").as_ref()) };
        assert_eq!(reader.content(kind, id, &named).unwrap(), "0123456789");
        reader.check_content(kind, id, &named).unwrap();
        reader.max_content = 9;
        let whys = [
            reader.content(kind, id, &named).unwrap_err(),
            reader.check_content(kind, id, &named).unwrap_err(),
        ];
        assert!(
            whys.iter().all(|why| why.contains("10 octets, and none of more than 9 is taken")),
            "{whys:?}"
        );
    }

    #[test]
    fn a_link_is_no_file_of_an_export() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("x"), "abc").unwrap();
        std::os::unix::fs::symlink(folder.path().join("x"), folder.path().join("y")).unwrap();
        assert!(open(folder.path(), "x").is_ok());
        assert_eq!(open(folder.path(), "y").unwrap_err(), "y is no file");
    }
}
