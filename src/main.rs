//! The `syncmx` program: see [`syncmx::cli`].

/// A message passes through several threads: with the system's allocator each keeps what it once needed for a large
/// one, and a small mail costs a tenth more (`benches/README.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    syncmx::cli::run()
}
