//! R57: what a file is, told by its content; and whether its name and declared type tell the truth.
//!
//! Content is believed only where it begins with what the format demands. Formats that share a container (Office and
//! ZIP, photos and films of one camera) are one [`Family`]: within it the declared type is the better one. Nothing is
//! unpacked. Pure.

/// What the content of a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    /// By content where that is certain, else as declared.
    pub(super) content_type: String,
    /// The usual extension of what it is, where content says so for certain.
    pub(super) detected: Option<&'static str>,
    /// Whether the content is a program, whatever it is called.
    pub(super) is_program: bool,
    /// In words, where name or declared type say something else.
    pub(super) mismatch: Option<String>,
}

/// Formats that cannot be told apart by their first octets, or that people name after each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Bmff,
    Bzip2,
    Gif,
    Gzip,
    Html,
    Jpeg,
    Mp3,
    Ogg,
    Ole,
    Pdf,
    Png,
    Program,
    Rar,
    Riff,
    Rtf,
    SevenZip,
    Text,
    Tiff,
    Xml,
    Zip,
}

/// A format that content proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    family: Family,
    content_type: &'static str,
    extension: &'static str,
}

/// Judges one file.
pub(super) fn judge(declared: &str, name: &str, octets: &[u8]) -> Judged {
    let by_name = family_of_extension(&extension(name));
    let by_type = family_of_type(declared);
    let Some(found) = sniff(octets) else {
        let promised = by_name.or(by_type).filter(|family| is_always_marked(*family));
        let mismatch = promised
            .filter(|_| !octets.is_empty())
            .map(|family| format!("named or declared as {}, but its content is not", words(family)));
        return Judged { content_type: declared.to_owned(), mismatch, ..Judged::default() };
    };
    let agrees = |other: Option<Family>| other.is_none_or(|other| is_plausible(found.family, other));
    let lies = match (agrees(by_name), agrees(by_type)) {
        (true, true) => None,
        (false, _) => Some("named"),
        (true, false) => Some("declared"),
    };
    let is_program = found.family == Family::Program;
    let mismatch = lies.map(|how| {
        let claim = by_name.filter(|_| how == "named").or(by_type).map_or("something else", words);
        format!("{how} as {claim}, but its content is {}", words(found.family))
    });
    let keeps = by_type.is_some_and(|by_type| is_plausible(found.family, by_type));
    let content_type = if keeps { declared.to_owned() } else { found.content_type.to_owned() };
    Judged { content_type, detected: Some(found.extension), is_program, mismatch }
}

/// What stands behind the last dot, lower case, as Windows reads it: of `invoice.pdf.exe. ` it is `exe`.
#[must_use]
pub fn extension(name: &str) -> String {
    let name =
        name.split(':').next().unwrap_or_default().trim_end_matches(|c: char| c == '.' || c.is_whitespace());
    name.rsplit_once('.').map(|(_, extension)| extension.trim().to_lowercase()).unwrap_or_default()
}

fn sniff(octets: &[u8]) -> Option<Format> {
    let format = |family, content_type, extension| Some(Format { family, content_type, extension });
    let head = octets.get(..octets.len().min(HEAD_OCTETS)).unwrap_or_default();
    if let Some(program) = program(head) {
        return format(Family::Program, program.0, program.1);
    }
    if head.starts_with(OLE) {
        return if is_installer(head) {
            format(Family::Program, "application/x-msi", "msi")
        } else {
            format(Family::Ole, "application/x-ole-storage", "doc")
        };
    }
    // ISO 32000 demands it at the very start, readers look through the first kibibyte.
    let first = head.get(..head.len().min(1_024)).unwrap_or_default();
    if memchr::memmem::find(first, b"%PDF-").is_some() {
        return format(Family::Pdf, "application/pdf", "pdf");
    }
    let kind = infer::get(head)?;
    let known = FORMATS.iter().find(|(_, content_type, _)| *content_type == kind.mime_type());
    match known {
        Some((Family::Bmff, "image/heif", _)) if head.get(8..11) == Some(b"hei") => {
            format(Family::Bmff, "image/heic", "heic")
        }
        Some((family, content_type, extension)) => format(*family, content_type, extension),
        None if head.starts_with(b"{\\rtf") => format(Family::Rtf, "application/rtf", "rtf"),
        None => None,
    }
}

/// Formats that an operating system runs.
fn program(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let starts = |mark: &[u8]| head.starts_with(mark);
    // Two letters alone begin many a text; the header behind them holds zeros.
    if starts(b"MZ") && head.get(..head.len().min(64)).is_some_and(|start| start.contains(&0)) {
        return Some(("application/vnd.microsoft.portable-executable", "exe"));
    }
    if starts(b"\x7fELF") {
        return Some(("application/x-executable", "elf"));
    }
    let is_mach = [&b"\xfe\xed\xfa\xce"[..], b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe"];
    if is_mach.iter().any(|mark| starts(mark)) {
        return Some(("application/x-mach-binary", "mach"));
    }
    if starts(b"\xca\xfe\xba\xbe") {
        return Some(("application/java-vm", "class"));
    }
    if starts(b"dex\n0") {
        return Some(("application/vnd.android.dex", "dex"));
    }
    if starts(b"L\0\0\0\x01\x14\x02\0") {
        return Some(("application/x-ms-shortcut", "lnk"));
    }
    if starts(b"ITSF\x03\0\0\0") {
        return Some(("application/vnd.ms-htmlhelp", "chm"));
    }
    if starts(b"MSCF\0\0\0\0") {
        return Some(("application/vnd.ms-cab-compressed", "cab"));
    }
    let is_jar = starts(b"PK\x03\x04")
        && head.get(30..).is_some_and(|name| {
            [&b"META-INF/MANIFEST.MF"[..], b"AndroidManifest.xml", b"classes.dex"]
                .iter()
                .any(|first| name.starts_with(first))
        });
    is_jar.then_some(("application/java-archive", "jar"))
}

/// A Windows Installer database: an OLE container whose root is of that class ([MS-CFB] section 2.6.1).
fn is_installer(head: &[u8]) -> bool {
    let sector_size: usize = if head.get(30) == Some(&12) { 4_096 } else { 512 };
    let Some(start) = head.get(48..52).and_then(|octets| <[u8; 4]>::try_from(octets).ok()) else {
        return false;
    };
    let root = usize::try_from(u32::from_le_bytes(start))
        .ok()
        .and_then(|sector| sector.checked_add(1)?.checked_mul(sector_size)?.checked_add(80));
    root.is_some_and(|at| head.get(at..).is_some_and(|entry| entry.starts_with(INSTALLER_CLASS)))
}

/// Whether a file of this content may honestly be called or declared so.
fn is_plausible(content: Family, said: Family) -> bool {
    content == said
        || matches!(
            (content, said),
            // A document behind a password is an OLE container; Word saves RTF as .doc; web pages are texts.
            (Family::Ole | Family::Xml, Family::Zip)
                | (Family::Rtf | Family::Xml, Family::Ole)
                | (Family::Html | Family::Xml | Family::Rtf, Family::Text)
                | (Family::Html, Family::Xml)
                | (Family::Xml, Family::Html)
                | (Family::Mp3 | Family::Ogg, Family::Bmff | Family::Mp3 | Family::Ogg)
        )
}

/// Formats that begin with their mark, always.
const fn is_always_marked(family: Family) -> bool {
    matches!(
        family,
        Family::Gif
            | Family::Gzip
            | Family::Jpeg
            | Family::Pdf
            | Family::Png
            | Family::SevenZip
            | Family::Rar
    )
}

const fn words(family: Family) -> &'static str {
    match family {
        Family::Bmff => "a photo or film",
        Family::Bzip2 | Family::Gzip | Family::Rar | Family::SevenZip => "a packed archive",
        Family::Gif => "a GIF image",
        Family::Html => "a web page",
        Family::Jpeg => "a JPEG image",
        Family::Mp3 | Family::Ogg => "a sound recording",
        Family::Ole => "an Office document",
        Family::Pdf => "a PDF document",
        Family::Png => "a PNG image",
        Family::Program => "a program",
        Family::Riff => "a sound, film or WebP image",
        Family::Rtf => "an RTF document",
        Family::Text => "a text",
        Family::Tiff => "a TIFF image",
        Family::Xml => "an XML document",
        Family::Zip => "a ZIP archive or Office document",
    }
}

fn family_of_extension(extension: &str) -> Option<Family> {
    let known =
        EXTENSIONS.iter().find(|(_, extensions)| extensions.split(' ').any(|known| known == extension));
    known.filter(|_| !extension.is_empty()).map(|(family, _)| *family)
}

fn family_of_type(declared: &str) -> Option<Family> {
    if let Some((family, ..)) = FORMATS.iter().find(|(_, content_type, _)| *content_type == declared) {
        return Some(*family);
    }
    let known = TYPES.iter().find(|(_, types)| types.split(' ').any(|known| known == declared));
    known.map(|(family, _)| *family).or_else(|| {
        let is = |start: &str| declared.starts_with(start);
        match () {
            () if is("application/vnd.openxmlformats-") || is("application/vnd.oasis.opendocument.") => {
                Some(Family::Zip)
            }
            () if is("text/") => Some(Family::Text),
            () if declared.ends_with("+xml") => Some(Family::Xml),
            () if declared.ends_with("+zip") => Some(Family::Zip),
            () => None,
        }
    })
}

/// Octets that are looked at.
const HEAD_OCTETS: usize = 64 * 1024;
const OLE: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";
const INSTALLER_CLASS: &[u8] = b"\x84\x10\x0c\0\0\0\0\0\xc0\0\0\0\0\0\0\x46";

/// What `infer` finds and is sure of. Formats with marks of two octets are left out.
const FORMATS: &[(Family, &str, &str)] = &[
    (Family::Bmff, "audio/m4a", "m4a"),
    (Family::Bmff, "image/avif", "avif"),
    (Family::Bmff, "image/heif", "heif"),
    (Family::Bmff, "video/mp4", "mp4"),
    (Family::Bmff, "video/quicktime", "mov"),
    (Family::Bmff, "video/x-m4v", "m4v"),
    (Family::Bzip2, "application/x-bzip2", "bz2"),
    (Family::Gif, "image/gif", "gif"),
    (Family::Gzip, "application/gzip", "gz"),
    (Family::Html, "text/html", "html"),
    (Family::Jpeg, "image/jpeg", "jpg"),
    (Family::Mp3, "audio/mpeg", "mp3"),
    (Family::Ogg, "audio/ogg", "ogg"),
    (Family::Ogg, "audio/opus", "opus"),
    (Family::Png, "image/png", "png"),
    (Family::Rar, "application/vnd.rar", "rar"),
    (Family::Riff, "audio/x-wav", "wav"),
    (Family::Riff, "image/webp", "webp"),
    (Family::Riff, "video/x-msvideo", "avi"),
    (Family::Rtf, "application/rtf", "rtf"),
    (Family::SevenZip, "application/x-7z-compressed", "7z"),
    (Family::Tiff, "image/tiff", "tif"),
    (Family::Xml, "text/xml", "xml"),
    (Family::Zip, "application/epub+zip", "epub"),
    (Family::Zip, "application/vnd.oasis.opendocument.presentation", "odp"),
    (Family::Zip, "application/vnd.oasis.opendocument.spreadsheet", "ods"),
    (Family::Zip, "application/vnd.oasis.opendocument.text", "odt"),
    (Family::Zip, "application/vnd.openxmlformats-officedocument.presentationml.presentation", "pptx"),
    (Family::Zip, "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    (Family::Zip, "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
    (Family::Zip, "application/zip", "zip"),
];

/// Extensions that promise a format.
const EXTENSIONS: &[(Family, &str)] = &[
    (Family::Bmff, "mp4 m4v m4a mov 3gp 3g2 heic heif hif avif"),
    (Family::Bzip2, "bz2"),
    (Family::Gif, "gif"),
    (Family::Gzip, "gz tgz"),
    (Family::Html, "htm html xhtml"),
    (Family::Jpeg, "jpg jpeg jpe jfif"),
    (Family::Mp3, "mp3"),
    (Family::Ogg, "ogg oga opus"),
    (Family::Ole, "doc dot xls ppt pps msg vsd pub"),
    (Family::Pdf, "pdf"),
    (Family::Png, "png"),
    (Family::Program, "exe dll scr com pif msi jar apk lnk chm cab class"),
    (Family::Rar, "rar"),
    (Family::Riff, "wav avi webp"),
    (Family::Rtf, "rtf"),
    (Family::SevenZip, "7z"),
    (Family::Text, "txt csv tsv log md eml ics vcf json asc"),
    (Family::Tiff, "tif tiff dng"),
    (Family::Xml, "xml svg"),
    (Family::Zip, "zip docx docm dotx xlsx xlsm pptx pptm odt ods odp epub pages numbers key"),
];

/// Further names of types.
const TYPES: &[(Family, &str)] = &[
    (Family::Bmff, "image/heic image/heic-sequence image/heif-sequence audio/mp4 audio/x-m4a video/3gpp"),
    (Family::Gzip, "application/x-gzip application/x-tgz"),
    (Family::Html, "application/xhtml+xml"),
    (Family::Jpeg, "image/jpg image/pjpeg"),
    (Family::Mp3, "audio/mp3"),
    (Family::Ogg, "application/ogg"),
    (
        Family::Ole,
        "application/msword application/vnd.ms-excel application/vnd.ms-powerpoint application/vnd.ms-outlook application/x-ole-storage",
    ),
    (Family::Pdf, "application/pdf application/x-pdf"),
    (Family::Png, "image/x-png"),
    (
        Family::Program,
        "application/x-msdownload application/x-dosexec application/vnd.microsoft.portable-executable \
         application/x-executable application/x-msi application/java-archive application/vnd.android.package-archive",
    ),
    (Family::Rar, "application/x-rar application/x-rar-compressed"),
    (Family::Riff, "audio/wav audio/wave video/avi"),
    (Family::Rtf, "text/rtf text/richtext"),
    (Family::Text, "application/json message/rfc822"),
    (Family::Xml, "application/xml"),
    (Family::Zip, "application/x-zip-compressed application/x-zip"),
];

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    const EXE: &[u8] = b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff\0\0";
    const OCTETS: &str = "application/octet-stream";

    #[track_caller]
    fn check(declared: &str, name: &str, octets: &[u8], expected: &str, lies: bool) {
        let found = judge(declared, name, octets);
        let seen = (found.content_type.as_str(), found.mismatch.is_some());
        assert_eq!(seen, (expected, lies), "{declared} {name}: {found:?}");
    }

    #[test]
    fn r57_the_type_is_told_by_content() {
        check(OCTETS, "scan.pdf", b"%PDF-1.7\n", "application/pdf", false);
        check(OCTETS, "scan", b"\xef\xbb\xbf\n%PDF-1.7\n", "application/pdf", false);
        check("image/png", "a.png", PNG, "image/png", false);
        check("image/jpeg", "a.jpg", PNG, "image/png", true);
        check("image/png", "a.jpg", PNG, "image/png", true);
        check("application/pdf", "a", PNG, "image/png", true);
        check(OCTETS, "IMG_1.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image/heic", false);
        check("image/heic", "IMG_1.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image/heic", false);
    }

    #[test]
    fn r57_within_a_family_the_declared_type_is_kept() {
        let docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
        check(docx, "letter.docx", b"PK\x03\x04\x14\0\0\0", docx, false);
        check(docx, "letter.docx", OLE, docx, false);
        check("application/msword", "letter.doc", OLE, "application/msword", false);
        check("application/msword", "letter.doc", b"{\\rtf1\\ansi", "application/msword", false);
        check("text/plain", "page.txt", b"<!DOCTYPE html><html>", "text/plain", false);
        check("text/calendar", "invite.ics", b"BEGIN:VCALENDAR\r\n", "text/calendar", false);
    }

    #[test]
    fn r57_a_program_is_one_whatever_it_is_called() {
        check("application/pdf", "invoice.pdf", EXE, "application/vnd.microsoft.portable-executable", true);
        check(OCTETS, "setup.exe", EXE, "application/vnd.microsoft.portable-executable", false);
        assert!(judge(OCTETS, "x", EXE).is_program);
        assert!(
            judge(
                OCTETS,
                "x.zip",
                b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x14\0\0\0META-INF/MANIFEST.MF"
            )
            .is_program
        );
        check("text/plain", "zones.txt", b"MZ is the code of Mozambique", "text/plain", false);
        let mut installer = vec![0_u8; 2_048];
        installer[..8].copy_from_slice(OLE);
        installer[30] = 9;
        installer[48] = 1;
        installer[1_024 + 80..1_024 + 96].copy_from_slice(INSTALLER_CLASS);
        assert!(judge("application/msword", "letter.doc", &installer).is_program);
        installer[48..52].copy_from_slice(&[0xff; 4]);
        assert!(!judge("application/msword", "letter.doc", &installer).is_program);
    }

    #[test]
    fn r57_what_promises_a_format_and_is_none_of_it_is_flagged() {
        check("application/pdf", "scan.pdf", b"please see our website", "application/pdf", true);
        check("application/pdf", "scan.pdf", b"<html><body>", "text/html", true);
        check("application/pdf", "scan.pdf", b"", "application/pdf", false);
    }

    #[test]
    fn r57_the_extension_is_read_as_windows_reads_it() {
        for name in ["a.pdf.exe", "a.EXE. ", "a.exe...", "a.exe:stream", "a. exe"] {
            assert_eq!(extension(name), "exe", "{name}");
        }
        assert_eq!((extension("a"), extension(".")), (String::new(), String::new()));
    }

    proptest::proptest! {
        #[test]
        fn no_content_stops_it(start in 0..8_usize, rest in proptest::collection::vec(proptest::num::u8::ANY, 0..700)) {
            let starts: [&[u8]; 8] = [b"", OLE, b"PK\x03\x04", b"MZ", b"\0\0\0\x18ftyp", b"RIFF", b"ITSF", b"<"];
            let octets = [starts[start], &rest].concat();
            let found = judge("application/pdf", "a.docx", &octets);
            proptest::prop_assert!(!found.content_type.is_empty());
        }
    }
}
