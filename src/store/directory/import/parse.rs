//! Octets in any pieces → rows. Pure.
//!
//! CSV after RFC 4180: a header line with the columns `name`, `email`, `other_emails` (several apart by `;` or
//! white space) and `external_id` in any order, others ignored; separated by comma, semicolon or tab. A record
//! over [`RECORD_MAX_OCTETS`] is one failed line, and an open quotation mark ends with it.

use crate::store::directory::NewContact;
use crate::store::directory::import::JsonLine;

/// What the octets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated, with a header line.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The number of its first line, from 1.
    pub line: u64,
    /// The contact, or why there is none.
    pub contact: Result<NewContact, String>,
}

/// Cuts octets into records.
#[derive(Debug)]
pub struct Parser {
    format: Format,
    record: Vec<u8>,
    /// Lines seen so far, the open one included.
    line: u64,
    /// Where the open record began.
    began: u64,
    quoted: bool,
    too_long: bool,
    columns: Option<Columns>,
}

#[derive(Clone, Debug, Default)]
struct Columns {
    separator: u8,
    name: Option<usize>,
    email: Option<usize>,
    other_emails: Option<usize>,
    external_id: Option<usize>,
}

impl Parser {
    /// At the first octet.
    #[must_use]
    pub const fn new(format: Format) -> Self {
        Self { format, record: Vec::new(), line: 1, began: 1, quoted: false, too_long: false, columns: None }
    }

    /// Takes octets; adds what is complete to `rows`.
    pub fn feed(&mut self, octets: &[u8], rows: &mut Vec<Row>) {
        for octet in octets {
            match octet {
                b'\n' => {
                    self.line += 1;
                    if !self.quoted || self.too_long {
                        self.end_record(rows);
                        continue;
                    }
                }
                b'"' if self.format == Format::Csv => self.quoted = !self.quoted,
                _ => {}
            }
            if self.record.len() >= RECORD_MAX_OCTETS {
                self.too_long = true;
            } else {
                self.record.push(*octet);
            }
        }
    }

    /// The end: what is open is the last record.
    pub fn finish(&mut self, rows: &mut Vec<Row>) {
        if !self.record.is_empty() {
            self.end_record(rows);
        }
    }

    fn end_record(&mut self, rows: &mut Vec<Row>) {
        let record = std::mem::take(&mut self.record);
        let line = std::mem::replace(&mut self.began, self.line);
        let (too_long, open) =
            (std::mem::replace(&mut self.too_long, false), std::mem::replace(&mut self.quoted, false));
        if too_long {
            let contact = Err(format!("longer than {RECORD_MAX_OCTETS} octets"));
            rows.push(Row { line, contact });
            return;
        }
        let record = record.strip_suffix(b"\r").unwrap_or(&record);
        let record = record.strip_prefix(b"\xEF\xBB\xBF").filter(|_| line == 1).unwrap_or(record);
        if record.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let contact = match (std::str::from_utf8(record), self.format) {
            (Err(_), _) => Err("is not UTF-8".to_owned()),
            (Ok(text), Format::Ndjson) => json(text),
            (Ok(_), Format::Csv) if open => Err("a quotation mark is not closed".to_owned()),
            (Ok(text), Format::Csv) => match &self.columns {
                Some(columns) => columns.read(text),
                None => match Columns::from_header(text) {
                    Ok(columns) => {
                        self.columns = Some(columns);
                        return;
                    }
                    Err(why) => Err(why),
                },
            },
        };
        rows.push(Row { line, contact });
    }
}

fn json(text: &str) -> Result<NewContact, String> {
    // The position counts from the line's start, where it is always line 1.
    serde_json::from_str::<JsonLine>(text).map(NewContact::from).map_err(|error| {
        let said = error.to_string();
        said.split(" at line ").next().unwrap_or_default().to_owned()
    })
}

impl Columns {
    fn from_header(header: &str) -> Result<Self, String> {
        let separator = *[b',', b';', b'\t'].iter().find(|s| header.as_bytes().contains(s)).unwrap_or(&b',');
        let names = fields(header, separator);
        let find = |wanted: &str| names.iter().position(|name| name.trim().eq_ignore_ascii_case(wanted));
        let columns = Self {
            separator,
            name: find("name"),
            email: find("email"),
            other_emails: find("other_emails"),
            external_id: find("external_id"),
        };
        match columns {
            Self { name: Some(_), email: Some(_), .. } => Ok(columns),
            _ => Err("the first line must name the columns `name` and `email`".to_owned()),
        }
    }

    fn read(&self, record: &str) -> Result<NewContact, String> {
        let fields = fields(record, self.separator);
        let field =
            |column: Option<usize>| column.and_then(|c| fields.get(c)).map_or("", String::as_str).trim();
        let others = field(self.other_emails).split([';', ',', ' ']).filter(|text| !text.is_empty());
        Ok(NewContact {
            name: field(self.name).to_owned(),
            email: field(self.email).to_owned(),
            other_emails: others.map(str::to_owned).collect(),
            external_id: Some(field(self.external_id)).filter(|id| !id.is_empty()).map(str::to_owned),
        })
    }
}

/// The fields of one record, quotation marks taken off.
fn fields(record: &str, separator: u8) -> Vec<String> {
    let separator = char::from(separator);
    let mut fields = vec![String::new()];
    let mut chars = record.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        let Some(field) = fields.last_mut() else { break };
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            c if c == separator && !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    fields
}

/// No contact needs more.
const RECORD_MAX_OCTETS: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(format: Format, text: &[u8], piece: usize) -> Vec<Row> {
        let (mut parser, mut rows) = (Parser::new(format), Vec::new());
        for octets in text.chunks(piece) {
            parser.feed(octets, &mut rows);
        }
        parser.finish(&mut rows);
        rows
    }

    /// A line's number, and name and email or what is wrong.
    type Expected<'a> = (u64, Result<(&'a str, &'a str), &'a str>);

    #[track_caller]
    fn check(format: Format, text: &str, expected: &[Expected<'_>]) {
        for piece in [1, 7, 10_000] {
            let rows = rows(format, text.as_bytes(), piece);
            let seen: Vec<_> = rows
                .iter()
                .map(|row| {
                    let contact = row.contact.as_ref().map(|c| (c.name.as_str(), c.email.as_str()));
                    (row.line, contact.map_err(String::as_str))
                })
                .collect();
            assert_eq!(seen, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn csv_is_read_with_quotes_line_breaks_and_any_column_order() {
        check(
            Format::Csv,
            "\u{feff}Email,x,Name\r\nana@a.test,1,\"Ruiz, \"\"Ana\"\"\"\r\n\r\nbo@b.test,2,\"B\no\"\nc@c.test,,C",
            &[
                (2, Ok(("Ruiz, \"Ana\"", "ana@a.test"))),
                (4, Ok(("B\no", "bo@b.test"))),
                (6, Ok(("C", "c@c.test"))),
            ],
        );
        check(Format::Csv, "name;email\nA;a@a.test\n", &[(2, Ok(("A", "a@a.test")))]);
    }

    #[test]
    fn a_header_without_name_and_email_fails_every_line() {
        let why = "the first line must name the columns `name` and `email`";
        check(Format::Csv, "A,a@a.test\nB,b@b.test\n", &[(1, Err(why)), (2, Err(why))]);
    }

    #[test]
    fn ndjson_names_what_is_wrong_with_a_line_and_goes_on() {
        check(
            Format::Ndjson,
            "{\"name\":\"A\",\"email\":\"a@a.test\"}\n\n{\"name\":\"B\"}\nnonsense\n{\"name\":\"C\",\"email\":\"c@c.test\",\"x\":1}\n",
            &[
                (1, Ok(("A", "a@a.test"))),
                (3, Err("missing field `email`")),
                (4, Err("expected ident")),
                (5, Err("unknown field `x`, expected one of `name`, `email`, `other_emails`, `external_id`")),
            ],
        );
    }

    #[test]
    fn a_record_at_the_limit_is_read_and_one_octet_more_is_one_failed_line() {
        let line = |octets: usize| {
            let head = "name,email\n";
            format!("{head}{},a@a.test\nB,b@b.test\n", "n".repeat(octets - ",a@a.test".len()))
        };
        let at = rows(Format::Csv, line(RECORD_MAX_OCTETS).as_bytes(), 4096);
        assert!(at.iter().all(|row| row.contact.is_ok()), "{:?}", at.len());
        let over = rows(Format::Csv, line(RECORD_MAX_OCTETS + 1).as_bytes(), 4096);
        assert!(over[0].contact.is_err() && over[1].contact.is_ok());
    }

    #[test]
    fn an_open_quotation_mark_swallows_one_record_at_most() {
        let text = format!("name,email\n\"{}\nB,b@b.test\n", "x".repeat(RECORD_MAX_OCTETS + 5));
        let rows = rows(Format::Csv, text.as_bytes(), 999);
        assert!(rows[0].contact.is_err() && rows[1].contact.is_ok(), "{}", rows.len());
        check(Format::Csv, "name,email\n\"B,b@b.test", &[(2, Err("a quotation mark is not closed"))]);
    }
}
