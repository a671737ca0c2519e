//! What a process has in memory, as Linux tells it in `/proc`, in KiB.

#![allow(clippy::allow_attributes, dead_code, reason = "each program that includes this uses its own part")]

/// What is resident now; none where there is no such process, or no `/proc`.
pub(crate) fn resident_kib(process: u32) -> Option<u64> {
    kib(process, "VmRSS:")
}

/// The most that was ever resident at once.
pub(crate) fn peak_kib(process: u32) -> Option<u64> {
    kib(process, "VmHWM:")
}

fn kib(process: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.split_whitespace().next()?.parse().ok()
}
