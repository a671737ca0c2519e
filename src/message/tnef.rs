//! `winmail.dat` (MS-OXTNEF) unpacked: the files inside, with their names and octets, and the body.
//!
//! Every length is checked against what is there; a stream that lies is read as far as it is true. Nested messages
//! are followed to [`MAX_DEPTH`]; nothing is executed.

use std::ops::Range;

use super::charset;
use super::scan::MAX_PARTS;

/// What a stream holds. Octets are ranges of the stream.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) files: Vec<File>,
    pub(super) text: Option<String>,
    pub(super) html: Option<String>,
}

/// One file.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) content_type: String,
    pub(super) content_id: Option<String>,
    pub(super) octets: Range<usize>,
}

/// Reads a stream; none if it is no TNEF.
pub(super) fn read(stream: &[u8]) -> Option<Contents> {
    let mut contents = Contents::default();
    read_at(stream, 0..stream.len(), &mut contents, 0)?;
    Some(contents)
}

fn read_at(stream: &[u8], range: Range<usize>, contents: &mut Contents, depth: usize) -> Option<()> {
    let mut cursor = Cursor { stream, at: range.start, end: range.end };
    if cursor.u32()? != SIGNATURE {
        return None;
    }
    cursor.u16()?;
    let mut reading = Reading { stream, contents, depth, code_page: 1252, file: None };
    while reading.attribute(&mut cursor).is_some() {}
    reading.close();
    Some(())
}

struct Reading<'a> {
    stream: &'a [u8],
    contents: &'a mut Contents,
    depth: usize,
    code_page: u32,
    file: Option<File>,
}

impl Reading<'_> {
    /// One attribute: level, id, length, data, checksum.
    fn attribute(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        cursor.u8()?;
        let id = cursor.u32()?;
        let length = usize::try_from(cursor.u32()?).ok()?;
        let data = cursor.take(length)?;
        match id {
            ATTACH_RENDDATA => {
                self.close();
                self.file = Some(File::default());
            }
            ATTACH_TITLE => {
                let name = self.ansi(data);
                if let Some(file) = self.file.as_mut().filter(|file| file.name.is_empty()) {
                    file.name = name;
                }
            }
            ATTACH_DATA => {
                // Some writers set data and name before the record that should open the file.
                self.file.get_or_insert_default().octets = data;
            }
            ATTACHMENT => {
                self.properties(data, Owner::File);
            }
            MAPI_PROPERTIES => {
                self.properties(data, Owner::Message);
            }
            OEM_CODE_PAGE => {
                let mut inner = Cursor { stream: self.stream, at: data.start, end: data.end };
                self.code_page = inner.u32().filter(|page| *page > 0).unwrap_or(1252);
            }
            BODY => {
                let text = self.ansi(data);
                self.contents.text.get_or_insert(text);
            }
            _ => {}
        }
        // The checksum: a wrong one has harmed nothing so far.
        cursor.u16()?;
        Some(())
    }

    fn close(&mut self) {
        if let Some(file) = self.file.take().filter(|file| !file.name.is_empty() || !file.octets.is_empty())
            && self.contents.files.len() < MAX_FILES
        {
            self.contents.files.push(file);
        }
    }

    fn ansi(&self, data: Range<usize>) -> String {
        let octets = self.stream.get(data).unwrap_or_default();
        let octets = octets.split(|b| *b == 0).next().unwrap_or_default();
        let label =
            if self.code_page == 65_001 { "utf-8".to_owned() } else { format!("cp{}", self.code_page) };
        charset::decode(Some(&label), octets).into_owned()
    }

    /// A list of MAPI properties (MS-OXTNEF section 2.1.3.4).
    fn properties(&mut self, data: Range<usize>, owner: Owner) -> Option<()> {
        let mut cursor = Cursor { stream: self.stream, at: data.start, end: data.end };
        let count = cursor.u32()?;
        for _ in 0..count.min(MAX_PROPERTIES) {
            let (kind, id) = (cursor.u16()?, cursor.u16()?);
            if id >= 0x8000 {
                skip_name(&mut cursor)?;
            }
            for value in values(&mut cursor, kind)? {
                self.property(owner, kind & 0x0fff, id, value);
            }
        }
        Some(())
    }

    fn property(&mut self, owner: Owner, kind: u16, id: u16, value: Range<usize>) {
        let text = |reading: &Self| {
            if kind == UNICODE {
                utf16(reading.stream.get(value.clone()).unwrap_or_default())
            } else {
                reading.ansi(value.clone())
            }
        };
        match (owner, id) {
            (Owner::Message, 0x1000) => self.contents.text = Some(text(self)),
            (Owner::Message, 0x1013) => self.contents.html = Some(text(self)),
            (Owner::File, 0x3701) if kind == OBJECT => self.nested(value),
            (Owner::File, 0x3701) if kind == BINARY => self.file.get_or_insert_default().octets = value,
            (Owner::File, 0x3704 | 0x3707 | 0x3001) => {
                let name = text(self);
                let file = self.file.get_or_insert_default();
                // The long name is the one to keep.
                if !name.is_empty() && (id == 0x3707 || file.name.is_empty()) {
                    file.name = name;
                }
            }
            (Owner::File, 0x370e) => {
                self.file.get_or_insert_default().content_type = text(self).to_lowercase()
            }
            (Owner::File, 0x3712) => self.file.get_or_insert_default().content_id = Some(text(self)),
            _ => {}
        }
    }

    /// A message inside: its identifier, then a stream of its own.
    fn nested(&mut self, value: Range<usize>) {
        if self.depth < MAX_DEPTH && value.len() > 16 {
            let mut inner = Contents::default();
            let found = read_at(self.stream, value.start + 16..value.end, &mut inner, self.depth + 1);
            if found.is_some() {
                self.contents.files.append(&mut inner.files);
                self.contents.files.truncate(MAX_FILES);
                return;
            }
        }
        self.file.get_or_insert_default().octets = value;
    }
}

#[derive(Clone, Copy)]
enum Owner {
    File,
    Message,
}

/// The octet ranges of one property's values.
fn values(cursor: &mut Cursor<'_>, kind: u16) -> Option<Vec<Range<usize>>> {
    let size = match kind & 0x0fff {
        0x0002 | 0x0003 | 0x0004 | 0x000a | 0x000b => Some(4),
        0x0005 | 0x0006 | 0x0007 | 0x0014 | 0x0040 => Some(8),
        0x0048 => Some(16),
        OBJECT | STRING | UNICODE | BINARY => None,
        0x0000 | 0x0001 => Some(0),
        _ => return None,
    };
    let count = if kind & MULTIPLE != 0 || size.is_none() { cursor.u32()?.min(MAX_PROPERTIES) } else { 1 };
    let mut out = Vec::new();
    // Values without octets are none, however many are announced.
    if size == Some(0) {
        return Some(out);
    }
    for _ in 0..count {
        let length = match size {
            Some(size) => size,
            None => usize::try_from(cursor.u32()?).ok()?,
        };
        out.push(cursor.take(length)?);
        cursor.take((4 - length % 4) % 4)?;
    }
    Some(out)
}

/// The name of a named property: a set, then a number or a string.
fn skip_name(cursor: &mut Cursor<'_>) -> Option<()> {
    cursor.take(16)?;
    if cursor.u32()? == 0 {
        cursor.u32()?;
        return Some(());
    }
    let length = usize::try_from(cursor.u32()?).ok()?;
    cursor.take(length)?;
    cursor.take((4 - length % 4) % 4)?;
    Some(())
}

fn utf16(octets: &[u8]) -> String {
    let text = encoding_rs::UTF_16LE.decode_without_bom_handling(octets).0;
    text.split('\0').next().unwrap_or_default().to_owned()
}

struct Cursor<'a> {
    stream: &'a [u8],
    at: usize,
    end: usize,
}

impl Cursor<'_> {
    fn take(&mut self, length: usize) -> Option<Range<usize>> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.end && *end <= self.stream.len())?;
        let range = self.at..end;
        self.at = end;
        Some(range)
    }

    fn u8(&mut self) -> Option<u8> {
        let range = self.take(1)?;
        self.stream.get(range.start).copied()
    }

    fn u16(&mut self) -> Option<u16> {
        let range = self.take(2)?;
        self.stream.get(range)?.try_into().ok().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        let range = self.take(4)?;
        self.stream.get(range)?.try_into().ok().map(u32::from_le_bytes)
    }
}

const SIGNATURE: u32 = 0x223e_9f78;
const ATTACH_RENDDATA: u32 = 0x0006_9002;
const ATTACH_TITLE: u32 = 0x0001_8010;
const ATTACH_DATA: u32 = 0x0006_800f;
const ATTACHMENT: u32 = 0x0006_9005;
const MAPI_PROPERTIES: u32 = 0x0006_9003;
const OEM_CODE_PAGE: u32 = 0x0006_9007;
const BODY: u32 = 0x0002_800c;
const OBJECT: u16 = 0x000d;
const STRING: u16 = 0x001e;
const UNICODE: u16 = 0x001f;
const BINARY: u16 = 0x0102;
const MULTIPLE: u16 = 0x1000;
const MAX_PROPERTIES: u32 = 10_000;
/// Files that are looked for in one stream: one more than any message may have, to whom it is then too many.
pub(super) const MAX_FILES: usize = MAX_PARTS + 1;
/// Messages inside each other.
const MAX_DEPTH: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(id: u32, data: &[u8]) -> Vec<u8> {
        let mut out = vec![2];
        out.extend(id.to_le_bytes());
        out.extend(u32::try_from(data.len()).expect("short").to_le_bytes());
        out.extend(data);
        out.extend([0, 0]);
        out
    }

    fn stream() -> Vec<u8> {
        let mut out = SIGNATURE.to_le_bytes().to_vec();
        out.extend([1, 0]);
        out.extend(attribute(ATTACH_RENDDATA, &[0; 14]));
        out.extend(attribute(ATTACH_TITLE, b"a.txt\0"));
        out.extend(attribute(ATTACH_DATA, b"hello"));
        out
    }

    #[test]
    fn r57_files_come_out_with_name_and_octets() {
        let stream = stream();
        let contents = read(&stream).expect("a stream");
        assert_eq!(contents.files.len(), 1);
        assert_eq!(
            (contents.files[0].name.as_str(), &stream[contents.files[0].octets.clone()]),
            ("a.txt", &b"hello"[..])
        );
    }

    #[test]
    fn m10_values_without_octets_are_none_however_many_are_announced() {
        for kind in [0x0000, 0x0001, MULTIPLE, MULTIPLE | 0x0001] {
            let announced = u32::MAX.to_le_bytes();
            let mut cursor = Cursor { stream: &announced, at: 0, end: announced.len() };
            assert_eq!(values(&mut cursor, kind), Some(Vec::new()), "{kind:#x}");
            assert_eq!(cursor.at, if kind & MULTIPLE == 0 { 0 } else { 4 });
        }
    }

    #[test]
    fn lengths_that_lie_end_the_reading_and_nothing_else() {
        let whole = stream();
        for cut in 0..whole.len() {
            let _ = read(&whole[..cut]);
        }
        for at in 6..whole.len() {
            let mut bent = whole.clone();
            bent[at] = 0xff;
            let _ = read(&bent);
        }
        assert!(read(b"not tnef").is_none());
    }
}
