//! Memory readied ahead of a thread that fills it.
//!
//! The kernel clears a page when it is touched first, and a large tree is built out of nothing but new pages: on one thread that is half of the
//! time a restart takes. Here another thread has them cleared a little ahead. An allocator hands out new memory mostly upwards, so "ahead" is
//! where the addresses lead; where that is wrong, nothing is lost but the work.

use rustix::mm::{Advice, madvise};
use std::ffi::c_void;
use std::ptr;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

/// How far ahead: what is readied in vain at the end stays with the process until it is used.
const AHEAD_BYTES: usize = 4 << 20;
/// Readied by one call: mappings of the process can be changed only between calls.
const STEP_BYTES: usize = 1 << 20;

/// Has memory readied. The thread begins with the first address and ends with this.
#[derive(Debug, Default)]
pub struct Populate {
    addresses: Option<SyncSender<usize>>,
    thread: Option<JoinHandle<()>>,
}

impl Populate {
    /// Memory is being filled at this address, upwards. Waits for nothing.
    pub fn ahead_of(&mut self, address: usize) {
        if self.thread.is_none() {
            let (addresses, inbox) = mpsc::sync_channel(1);
            // Without a thread the pages are cleared when they are touched, as ever.
            self.thread = std::thread::Builder::new().name("zoo-populate".into()).spawn(move || populate(&inbox)).ok();
            self.addresses = Some(addresses);
        }
        if let Some(addresses) = &self.addresses {
            // One that does not fit is followed by a later one.
            let _ = addresses.try_send(address);
        }
    }
}

impl Drop for Populate {
    fn drop(&mut self) {
        self.addresses = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn populate(addresses: &Receiver<usize>) {
    let mut ready = 0..0;
    for address in addresses {
        let from = address.next_multiple_of(STEP_BYTES);
        if !ready.contains(&from) {
            ready = from..from;
        }
        while ready.end < from + AHEAD_BYTES && touch(ready.end) {
            ready.end += STEP_BYTES;
        }
    }
}

/// Makes the kernel provide the pages of one step. False where there is no such memory, or the kernel does not know how (before 5.14).
fn touch(start: usize) -> bool {
    let start = ptr::without_provenance_mut::<c_void>(start);
    // SAFETY: it changes the content of no memory, whoever owns it and whatever it is: pages are provided as if they had been written to, and where
    // that is not possible the call fails.
    unsafe { madvise(start, STEP_BYTES, Advice::LinuxPopulateWrite) }.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    const PAGE_BYTES: usize = 4096;

    /// Memory that nobody has used before, which cannot be said of what an allocator gives.
    struct Fresh {
        start: *mut c_void,
        bytes: usize,
    }

    impl Fresh {
        fn new(bytes: usize) -> Self {
            // SAFETY: a new mapping where the kernel likes.
            let start = unsafe { mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE) };
            Fresh { start: start.expect("memory"), bytes }
        }

        /// Pages of it that are in memory.
        fn resident(&self) -> usize {
            let mut entries = vec![0; self.bytes / PAGE_BYTES * 8];
            let pages = File::open("/proc/self/pagemap").expect("linux");
            pages.read_exact_at(&mut entries, (self.start.addr() / PAGE_BYTES * 8) as u64).expect("an entry for each page");
            entries.chunks(8).filter(|entry| entry[7] & 0x80 != 0).count()
        }
    }

    impl Drop for Fresh {
        fn drop(&mut self) {
            // SAFETY: it is ours, and nothing refers to it.
            unsafe { munmap(self.start, self.bytes) }.expect("a mapping of ours");
        }
    }

    #[test]
    fn memory_behind_an_address_is_there_before_it_is_touched_and_keeps_its_content() {
        let fresh = Fresh::new(4 * AHEAD_BYTES);
        let begun = fresh.start.cast::<[u8; 5]>();
        // SAFETY: within the mapping, which nobody else has.
        unsafe { begun.write(*b"begun") };
        let before = fresh.resident();
        let mut populate = Populate::default();
        populate.ahead_of(fresh.start.addr());
        drop(populate); // waits until it is done
        let more = (fresh.resident() - before) * PAGE_BYTES;
        assert!((AHEAD_BYTES - STEP_BYTES..=AHEAD_BYTES + STEP_BYTES).contains(&more), "{more} bytes");
        // SAFETY: as above.
        assert_eq!(unsafe { begun.read() }, *b"begun");
    }

    #[test]
    fn where_there_is_no_memory_nothing_happens() {
        for address in [0, PAGE_BYTES, usize::MAX / 2] {
            Populate::default().ahead_of(address);
        }
        drop(Populate::default());
    }
}
