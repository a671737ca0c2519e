//! interpose.c from the outside: which calls of the server fail, what its clock says, and what a power cut takes away.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// Between one server and its C library.
pub(crate) struct Interposer {
    library: PathBuf,
    folder: TempDir,
    control: File,
}

/// Which calls fail, and how.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) kinds: u64,
    /// From the first, counted from 1, to the last.
    pub(crate) calls: (u64, u64),
    pub(crate) how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// The process ends before the call.
    Ends,
    /// `EIO`.
    InputOutput,
    /// `ENOSPC`, after half of the octets.
    NoSpace,
}

pub(crate) const WRITES: u64 = 1 | 4 | 8 | 16 | 32;
pub(crate) const SYNCS: u64 = 2;
pub(crate) const READS: u64 = 64;

impl Interposer {
    /// None, with a printed line, where there is no C compiler.
    pub(crate) fn new() -> Option<Self> {
        static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
        let Some(library) = LIBRARY.get_or_init(compile).clone() else {
            println!("skipped: there is no C compiler: cc cannot be started");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("control"), [0; 88]).unwrap();
        let control = File::options().read(true).write(true).open(folder.path().join("control")).unwrap();
        Some(Self { library, folder, control })
    }

    /// For a server whose data lies below this folder.
    pub(crate) fn environment(&self, data: &Path) -> Vec<String> {
        let control = self.folder.path().join("control");
        vec![
            format!("LD_PRELOAD={}", self.library.display()),
            format!("FAULT_CONTROL={}", control.display()),
            format!("FAULT_FOLDER={}", data.display()),
        ]
    }

    /// The same, and everything that is not yet on disk is noted.
    pub(crate) fn environment_with_journal(&self, data: &Path) -> Vec<String> {
        let mut environment = self.environment(data);
        environment.push(format!("FAULT_JOURNAL={}", self.journal().display()));
        environment
    }

    /// A service that runs as another user reads and writes the control file, too.
    pub(crate) fn let_others_in(&self) {
        let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
        fs::set_permissions(self.folder.path(), mode(0o755)).unwrap();
        fs::set_permissions(self.folder.path().join("control"), mode(0o666)).unwrap();
    }

    pub(crate) fn arm(&self, fault: Fault) {
        self.disarm();
        let error = match fault.how {
            How::Ends => 0,
            How::InputOutput => 5,
            How::NoSpace => 28,
        };
        for (place, value) in [
            (CALLS, 0),
            (FAILED, 0),
            (FIRST, fault.calls.0),
            (LAST, fault.calls.1),
            (ERROR, error),
            (HALF, u64::from(fault.how == How::NoSpace)),
            (KINDS, fault.kinds),
        ] {
            self.set(place, value);
        }
    }

    pub(crate) fn disarm(&self) {
        self.set(KINDS, 0);
    }

    /// Calls that were made to fail since it was armed.
    pub(crate) fn failed(&self) -> u64 {
        self.value(FAILED)
    }

    /// Calls of the kinds that it is armed for, since then.
    pub(crate) fn calls(&self) -> u64 {
        self.value(CALLS)
    }

    pub(crate) fn set_clock(&self, seconds: i64) {
        self.set(CLOCK, seconds.cast_unsigned());
    }

    /// As if the server had run for so many seconds more; its wall clock shows these, too, but for so many.
    pub(crate) fn pass(&self, seconds: i64, but_for: i64) {
        self.set(CLOCK, self.value(CLOCK).wrapping_add((seconds - but_for).cast_unsigned()));
        self.set(PASSED, self.value(PASSED).wrapping_add(seconds.cast_unsigned()));
    }

    pub(crate) fn slow_down_syncs(&self, micros: u64) {
        self.set(SYNC_MICROS, micros);
    }

    fn set(&self, place: u64, value: u64) {
        self.control.write_all_at(&value.to_ne_bytes(), place * 8).unwrap();
    }

    fn value(&self, place: u64) -> u64 {
        let mut octets = [0; 8];
        self.control.read_exact_at(&mut octets, place * 8).unwrap();
        u64::from_ne_bytes(octets)
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    /// After the end of the process: takes back what was never synced, all of it or the half that `is_lost` picks.
    /// Returns how many changes that were.
    pub(crate) fn cut_power(&self, mut is_lost: impl FnMut() -> bool) -> usize {
        assert_eq!(self.value(JOURNAL_FAILED), 0, "not everything was noted");
        let journal = fs::read(self.journal()).unwrap();
        fs::write(self.journal(), []).unwrap();
        let mut pending = Vec::new();
        let mut rest = journal.as_slice();
        while let Some(record) = Record::read(&mut rest) {
            record.take_in(&mut pending);
        }
        let mut undone = 0;
        for record in pending.iter().rev() {
            // What makes a name goes with all that is in it; only single writes may or may not have got through.
            if record.kind != Kind::Write || is_lost() {
                record.undo();
                undone += 1;
            }
        }
        undone
    }
}

/// One change that was noted.
struct Record {
    kind: Kind,
    path: PathBuf,
    at: u64,
    size_before: u64,
    data: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Create,
    Remove,
    Rename,
    Sync,
    Write,
}

impl Record {
    fn read(rest: &mut &[u8]) -> Option<Self> {
        let mut numbers = [0_u64; 5];
        for number in &mut numbers {
            *number = u64::from_ne_bytes(rest.split_off(..8)?.try_into().unwrap());
        }
        let [kind, path, at, size_before, data] = numbers;
        let kind = match kind {
            1 => Kind::Write,
            2 => Kind::Sync,
            3 => Kind::Create,
            4 => Kind::Rename,
            5 => Kind::Remove,
            _ => panic!("no record of interpose.c: {kind}"),
        };
        // The last one may be torn: then what it tells of was never done.
        let path = rest.split_off(..usize::try_from(path).unwrap())?;
        let data = rest.split_off(..usize::try_from(data).unwrap())?.to_vec();
        let path = PathBuf::from(std::str::from_utf8(path).unwrap());
        Some(Self { kind, path, at, size_before, data })
    }

    /// What is still at stake after this one.
    fn take_in(self, pending: &mut Vec<Self>) {
        match self.kind {
            Kind::Create | Kind::Rename | Kind::Write => pending.push(self),
            // Nothing that a 250 stands for is ever removed: the removal counts as done.
            Kind::Remove => pending.retain(|record| record.path != self.path),
            Kind::Sync => {
                let names: HashMap<PathBuf, PathBuf> = renamed(pending);
                let is_synced = |path: &PathBuf| *path == self.path || names.get(path) == Some(&self.path);
                let is_entry = |path: &Path| path.parent() == Some(self.path.as_path());
                let settled: HashMap<PathBuf, PathBuf> = names
                    .iter()
                    .filter(|(_, to)| is_entry(to))
                    .map(|(from, to)| (from.clone(), to.clone()))
                    .collect();
                pending.retain(|record| match record.kind {
                    Kind::Write => !is_synced(&record.path),
                    Kind::Create | Kind::Rename => !is_entry(&record.path),
                    Kind::Remove | Kind::Sync => false,
                });
                for record in pending {
                    if let Some(to) = settled.get(&record.path) {
                        record.path.clone_from(to);
                    }
                }
            }
        }
    }

    fn undo(&self) {
        match self.kind {
            Kind::Create if self.path.is_dir() => fs::remove_dir_all(&self.path).unwrap(),
            Kind::Create => drop(fs::remove_file(&self.path)),
            Kind::Rename => {
                let to = std::str::from_utf8(&self.data).unwrap();
                drop(fs::rename(to, &self.path));
            }
            Kind::Write => {
                let Ok(file) = File::options().write(true).open(&self.path) else { return };
                file.write_all_at(&self.data, self.at).unwrap();
                // It was shorter, or was cut off.
                file.set_len(self.size_before).unwrap();
            }
            Kind::Remove | Kind::Sync => {}
        }
    }
}

/// Old names and new ones, while the renaming itself is at stake.
fn renamed(pending: &[Record]) -> HashMap<PathBuf, PathBuf> {
    let renamings = pending.iter().filter(|record| record.kind == Kind::Rename);
    renamings
        .map(|record| (record.path.clone(), PathBuf::from(std::str::from_utf8(&record.data).unwrap())))
        .collect()
}

fn compile() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/interpose.c");
    let made = folder.join(format!("interpose-{}.so", std::process::id()));
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&made)
        .arg(source)
        .arg("-ldl")
        .output()
        .ok()?;
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{source} does not compile ({}):\n{said}", built.status);
    let library = folder.join("interpose.so");
    fs::rename(made, &library).unwrap();
    Some(library)
}

const CALLS: u64 = 0;
const FIRST: u64 = 1;
const LAST: u64 = 2;
const FAILED: u64 = 3;
const KINDS: u64 = 4;
const ERROR: u64 = 5;
const HALF: u64 = 6;
const CLOCK: u64 = 7;
const SYNC_MICROS: u64 = 8;
const JOURNAL_FAILED: u64 = 9;
const PASSED: u64 = 10;
