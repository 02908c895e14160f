//! The `zoo` command.

use std::process::ExitCode;

/// Frees across threads are cheap in it, and every reply buffer, batch and body may be freed by another core than its maker's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    zoo::cli::run(std::env::args_os())
}
