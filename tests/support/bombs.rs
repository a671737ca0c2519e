//! Mails that once took their reader tens of times their size of memory, or minutes.

#![allow(clippy::allow_attributes, dead_code, reason = "each program that includes this uses its own part")]

/// One of them.
pub(crate) struct Bomb {
    pub(crate) name: &'static str,
    /// Its fields of MIME.
    pub(crate) mime: &'static str,
    pub(crate) body: Vec<u8>,
}

/// All of them, each of about so many octets.
pub(crate) fn all(octets: usize) -> Vec<Bomb> {
    const HTML: &str = "Content-Type: text/html";
    let bomb = |name, mime, start: &str, repeated: &str| {
        let body = [start.as_bytes(), &repeated.as_bytes().repeat(octets / repeated.len()), b"\r\n"].concat();
        Bomb { name, mime, body }
    };
    let wide = b"\x80\x80\x80\x80\x80\x80\r\n".repeat(octets / 8);
    vec![
        bomb("values of JSON", "Content-Type: text/plain", "{\"a\":[0", ",0,0,0,0,0,0,0,0\r\n"),
        bomb("lines of a calendar", "Content-Type: text/calendar", "BEGIN:VCALENDAR\r\n", "A:\r\n"),
        bomb("empty lines", "Content-Type: text/plain", "a", "\r\n"),
        bomb("rules across a page", HTML, "", "<hr>"),
        bomb("quotes to the end of a page", HTML, "", "<p id=zwchr>a\r\n"),
        bomb("quotes inside each other", HTML, "", "<p class=gmail_quote>a\r\n"),
        bomb("lists inside each other", HTML, "", "<ul>\r\n"),
        bomb("quotes and answers", "Content-Type: text/plain", "", "a\r\n> b\r\n"),
        bomb("a forward of empty lines", "Content-Type: text/plain", FORWARD, "\r\n"),
        Bomb { name: "letters of three octets", mime: "Content-Transfer-Encoding: 8bit", body: wide },
        Bomb {
            name: "files of Outlook",
            mime: "Content-Type: multipart/mixed; boundary=b",
            body: files(octets),
        },
        Bomb { name: "messages inside messages", mime: QUOTED, body: messages(octets) },
    ]
}

const FORWARD: &str = "---------- Forwarded message ---------\r\nFrom: Ana <ana@x.test>\r\n\
    Date: 5 Jan 2026\r\nSubject: x\r\nTo: b@x.test\r\n\r\na";
const QUOTED: &str = "Content-Type: message/rfc822\r\nContent-Transfer-Encoding: quoted-printable";

/// A stream of nearly all of it, with a thousand files in it.
fn files(octets: usize) -> Vec<u8> {
    let mut stream = b"\x78\x9f\x3e\x22\0\0".to_vec();
    let file = |name: &[u8]| {
        let mut file = b"\x02\x02\x90\x06\0\0\0\0\0\0\0\x02\x10\x80\x01\0".to_vec();
        file.extend_from_slice(&u32::try_from(name.len()).unwrap_or_default().to_le_bytes());
        [&file, name, b"\0\0"].concat()
    };
    stream.extend_from_slice(&file(b"a").repeat(999));
    stream.extend_from_slice(b"\x02\x0f\x80\x06\0");
    let rest = (octets / 4 * 3).saturating_sub(stream.len() + 40);
    stream.extend_from_slice(&u32::try_from(rest).unwrap_or_default().to_le_bytes());
    stream.resize(stream.len() + rest, b'x');
    let mut body = b"--b\r\nContent-Type: application/ms-tnef; name=winmail.dat\r\n\
        Content-Transfer-Encoding: base64\r\n\r\n"
        .to_vec();
    for line in stream.chunks(57) {
        body.extend_from_slice(base64(line).as_bytes());
        body.extend_from_slice(b"\r\n");
    }
    [&body[..], b"--b--\r\n"].concat()
}

/// Behind quoted-printable nothing gets smaller.
fn messages(octets: usize) -> Vec<u8> {
    let mut body = format!("{QUOTED}\r\n\r\n").repeat(18);
    body.push_str("Subject: x\r\n\r\n");
    body.push_str(&"abcdefgh\r\n".repeat(octets / 10));
    body.into_bytes()
}

pub(crate) fn base64(octets: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(octets.len() / 3 * 4 + 4);
    for chunk in octets.chunks(3) {
        let at = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..4 {
            let sixth = usize::try_from(bits >> (18 - 6 * n) & 63).unwrap_or_default();
            text.push(if n <= chunk.len() { char::from(ALPHABET[sixth]) } else { '=' });
        }
    }
    text
}
