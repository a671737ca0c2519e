//! The `syncmx` program: see [`syncmx::cli`].

fn main() -> std::process::ExitCode {
    syncmx::cli::run()
}
