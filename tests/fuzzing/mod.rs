//! What the seeded fuzzers share: the loop over cases, mutations, and a per-thread count of allocated bytes.
//!
//! `ZOO_FUZZ_CASES` sets the budget. A failing case prints the seed that replays it alone: `ZOO_FUZZ_SEED=… ZOO_FUZZ_CASES=1`.
#![allow(unsafe_code)] // a counting allocator cannot be written without

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use zoo::base::prng::Prng;

/// Runs `case` with a fresh generator each time, `budget` times unless the environment says otherwise.
pub fn each_case(name: &str, budget: u64, mut case: impl FnMut(&mut Prng)) {
    let number = |variable: &str| std::env::var(variable).ok().and_then(|v| v.parse::<u64>().ok());
    let first = number("ZOO_FUZZ_SEED").unwrap_or(1);
    for seed in first..first + number("ZOO_FUZZ_CASES").unwrap_or(budget) {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&mut Prng::new(seed))));
        if let Err(panic) = outcome {
            eprintln!("{name}: replay with ZOO_FUZZ_SEED={seed} ZOO_FUZZ_CASES=1");
            std::panic::resume_unwind(panic);
        }
    }
}

/// One of the slice.
pub fn pick<T: Copy>(rng: &mut Prng, from: &[T]) -> T {
    from[rng.below(from.len() as u64) as usize]
}

/// Numbers that lengths, counts and codes go wrong at.
const EDGES: [i32; 12] = [0, 1, -1, -2, 2, 3, 4, 127, 0xf_ffff, i32::MAX, i32::MIN, -101];

/// Damages `bytes` in a few places: flips, cuts, repeats, and lengths overwritten.
pub fn mutate(rng: &mut Prng, bytes: &mut Vec<u8>) {
    for _ in 0..=rng.below(3) {
        if bytes.is_empty() {
            bytes.push(rng.next_u64() as u8);
            continue;
        }
        let at = rng.below(bytes.len() as u64) as usize;
        match rng.below(6) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = rng.next_u64() as u8,
            2 => bytes.truncate(at),
            3 => {
                let tail = bytes[at..].to_vec();
                bytes.extend(tail);
            }
            4 => drop(bytes.remove(at)),
            _ => {
                let edge = pick(rng, &EDGES).to_be_bytes();
                let end = bytes.len().min(at + edge.len());
                bytes[at..end].copy_from_slice(&edge[..end - at]);
            }
        }
    }
}

/// Bytes allocated by `work` on this thread, what was freed meanwhile not subtracted.
#[allow(dead_code)] // not every fuzzer bounds its allocations
pub fn allocated_by<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.get();
    let result = work();
    (result, ALLOCATED.get() - before)
}

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call is passed on unchanged to the system's allocator; counting touches a thread-local without a destructor, which
// neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.set(ALLOCATED.get().wrapping_add(layout.size()));
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(at, layout) }
    }
}
