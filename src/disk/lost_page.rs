//! What happens when a page of a mapped file can be neither read nor written: the disk under it failed, or somebody cut the file. The kernel
//! sends SIGBUS to the thread that touched it, and there is nothing to go on with (L12). Without a handler the process would end all the same,
//! but without a word.

use signal_hook::consts::SIGBUS;
use signal_hook::low_level;
use std::io;
use std::os::fd::BorrowedFd;

const MESSAGE: &[u8] = b"zoo: fatal: SIGBUS: a page of a mapped file could not be read or written: the disk failed, or a file in the data \
    directory was cut by somebody else; the transaction log cannot go on\n";

/// Makes this process say so before it ends. For a process that is the server's own: a library has no business with its host's signals.
pub fn report_lost_pages() -> io::Result<()> {
    // SAFETY: the action calls write(2) and abort(3) and nothing else, both of which are allowed in a signal handler; it does not return.
    unsafe { low_level::register(SIGBUS, end_with_message) }.map(drop)
}

fn end_with_message() {
    // SAFETY: descriptor 2 is not closed by this process; were it, the write would fail and nothing else happen.
    let stderr = unsafe { BorrowedFd::borrow_raw(2) };
    // Nobody is left to tell that the message could not be written.
    let _ = rustix::io::write(stderr, MESSAGE);
    low_level::abort();
}
