//! An export on its way to disk: a folder beside its place, for our eyes alone, which gets its name when it is whole.
//!
//! Promises that no folder under its own name is half an export; that `manifest.json` names each file with size and
//! SHA-256, and what could not be read; and that nothing is held in memory but a file's buffer.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::transfer::{Entry, MANIFEST, hex};

/// The folder.
#[derive(Debug)]
pub(super) struct Folder {
    temporary: TempDir,
    target: PathBuf,
    manifest: BufWriter<File>,
    entries: u64,
    problems: u64,
}

/// A file that is being written.
pub(super) struct Stream {
    path: String,
    file: BufWriter<File>,
    context: Context,
    size: u64,
    lines: u64,
}

impl Folder {
    /// Begins an export that will be at `target`; `header` is what the manifest says of the whole.
    pub(super) fn create(target: &Path, header: &Value) -> io::Result<Self> {
        refuse_what_is_there(target)?;
        let name = target.file_name().ok_or_else(|| io::Error::other("it has no name"))?;
        let parent =
            target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let temporary = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o700))
            .prefix(&format!(".{}.part-", name.to_string_lossy()))
            .tempdir_in(parent)?;
        let mut manifest = BufWriter::new(create_private(&temporary.path().join(MANIFEST))?);
        let header = header.to_string();
        let open = header.strip_suffix('}').unwrap_or(&header);
        writeln!(manifest, "{open},\"files\":[")?;
        Ok(Self { temporary, target: target.to_owned(), manifest, entries: 0, problems: 0 })
    }

    /// Begins a file; `path` is made of safe names.
    pub(super) fn open(&self, path: &str) -> io::Result<Stream> {
        let place = self.temporary.path().join(path);
        if let Some(folder) = place.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        Ok(Stream {
            path: path.to_owned(),
            file: BufWriter::new(create_private(&place)?),
            context: Context::new(&SHA256),
            size: 0,
            lines: 0,
        })
    }

    /// Ends a file, and names it in the manifest.
    pub(super) fn close(&mut self, mut stream: Stream, lines: Lines) -> io::Result<Entry> {
        stream.file.flush()?;
        let entry = Entry {
            path: stream.path,
            size: Some(stream.size),
            sha256: Some(hex(stream.context.finish().as_ref())),
            lines: (lines == Lines::Count).then_some(stream.lines),
            problem: None,
        };
        self.note(&entry)?;
        Ok(entry)
    }

    /// Writes a whole file.
    pub(super) fn write(&mut self, path: &str, octets: &[u8]) -> io::Result<Entry> {
        let mut stream = self.open(path)?;
        stream.write(octets)?;
        self.close(stream, Lines::None)
    }

    /// Names what cannot be in it.
    pub(super) fn miss(&mut self, path: &str, problem: String) -> io::Result<()> {
        self.problems += 1;
        let entry =
            Entry { path: path.to_owned(), size: None, sha256: None, lines: None, problem: Some(problem) };
        self.note(&entry)
    }

    /// How many files could not be read.
    pub(super) const fn problems(&self) -> u64 {
        self.problems
    }

    /// All is written: on disk, and under its name.
    pub(super) fn finish(mut self) -> io::Result<PathBuf> {
        writeln!(self.manifest, "\n]}}")?;
        self.manifest.flush()?;
        // A million small files, one by one, would take an hour.
        rustix::fs::sync();
        refuse_what_is_there(&self.target)?;
        fs::rename(self.temporary.path(), &self.target)?;
        let _renamed = self.temporary.keep();
        let parent = self.target.parent().filter(|parent| !parent.as_os_str().is_empty());
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(self.target)
    }

    /// One a line: an import reads them one by one.
    fn note(&mut self, entry: &Entry) -> io::Result<()> {
        let joint = if self.entries == 0 { "" } else { ",\n" };
        self.entries += 1;
        write!(self.manifest, "{joint}{}", serde_json::to_string(entry)?)
    }
}

/// Whether a file's lines are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lines {
    Count,
    None,
}

impl Stream {
    pub(super) fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.context.update(octets);
        self.size += octets.len() as u64;
        self.file.write_all(octets)
    }

    /// A line, and its end.
    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        self.lines += 1;
        self.write(line.as_bytes())?;
        self.write(b"\n")
    }
}

/// An empty folder may be there; anything else stays.
fn refuse_what_is_there(target: &Path) -> io::Result<()> {
    match fs::read_dir(target).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there already, and not empty")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn create_private(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_export_has_its_name_only_when_it_is_whole() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("export");
        let mut folder = Folder::create(&target, &json!({ "format": 1 })).unwrap();
        folder.write("a/b.txt", b"abc").unwrap();
        folder.miss("a/c.txt", "damaged".to_owned()).unwrap();
        assert!(!target.exists());
        assert_eq!(folder.problems(), 1);
        folder.finish().unwrap();
        let mode = |path: &str| fs::metadata(target.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode(""), mode("a"), mode("a/b.txt"), mode(MANIFEST)], [0o700, 0o700, 0o600, 0o600]);
        let manifest: Value = serde_json::from_slice(&fs::read(target.join(MANIFEST)).unwrap()).unwrap();
        assert_eq!(manifest["format"], 1);
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(manifest["files"][0], json!({ "path": "a/b.txt", "size": 3, "sha256": sha256 }));
        assert_eq!(manifest["files"][1]["problem"], "damaged");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_there_stays_and_what_is_given_up_leaves_nothing() {
        let place = tempfile::tempdir().unwrap();
        let target = place.path().join("export");
        drop(Folder::create(&target, &json!({})).unwrap());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
        fs::create_dir(&target).unwrap();
        let late = Folder::create(&target, &json!({ "a": 1 })).unwrap();
        fs::write(target.join("mine"), "x").unwrap();
        assert!(Folder::create(&target, &json!({})).is_err());
        assert!(late.finish().is_err(), "somebody was faster");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        let file = place.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(Folder::create(&file, &json!({})).is_err());
    }
}
