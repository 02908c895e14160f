//! The floor under every acknowledged write: append to a prepared segment, make it durable, nothing else.
//!
//! `cargo bench --bench fdatasync [-- --dir DIR]` prepares one 64 MiB segment on the disk of DIR (default: cargo's target directory), as the
//! log does: filled with zeros past the page cache, synced, mapped. Then it appends records of several sizes, each followed by one
//! fdatasync, first through the ring of a bare glommio executor and beside it as a plain blocking call.
//!
//! `--loops N`, N above 1, has N threads do the latter at once, each with a segment of its own: as much as N servers on one disk do.

#![allow(unsafe_code)]

use glommio::io::BufferedFile;
use glommio::{LocalExecutorBuilder, Placement};
use memmap2::{MmapMut, MmapOptions};
use rustix::fs::OFlags;
use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// As the server's executors.
const IO_MEMORY: usize = 64 << 10;
const RING_DEPTH: usize = 128;
/// Never, as the server has it.
const PREEMPT_TIMER: Duration = Duration::from_secs(24 * 3600);
/// As the log's segments.
const SEGMENT_BYTES: usize = 64 << 20;
/// One write while filling.
const FILL_BYTES: usize = 1 << 20;
/// Record sizes; the first is about a setData of 100 B.
const SIZES: [usize; 3] = [200, 4 << 10, 64 << 10];
/// Rounds of each size and way; both ways take turns in blocks, so that the disk's moods fall on both.
const BLOCKS: usize = 10;
const ROUNDS_PER_BLOCK: usize = 100;
const BLOCKS_IN_TEST: usize = 1;
const ROUNDS_IN_TEST: usize = 5;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let dir = args
        .iter()
        .position(|a| a == "--dir")
        .and_then(|at| args.get(at + 1))
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let (blocks, rounds) = if args.iter().any(|a| a == "--bench") { (BLOCKS, ROUNDS_PER_BLOCK) } else { (BLOCKS_IN_TEST, ROUNDS_IN_TEST) };
    let loops =
        args.iter().position(|a| a == "--loops").and_then(|at| args.get(at + 1)).map_or(1, |n| n.parse().expect("a number of loops"));
    let scratches: Vec<Scratch> = (0..loops).map(|n| Scratch(dir.join(format!("fdatasync-floor.{}.{n}", std::process::id())))).collect();
    let segments =
        scratches.iter().map(|Scratch(path)| (path.clone(), prepare(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))));
    let mut segments: Vec<(PathBuf, File)> = segments.collect();
    println!("{loops} of {} MiB in {}", SEGMENT_BYTES >> 20, dir.display());
    match segments.pop() {
        Some((path, file)) if segments.is_empty() => measure(&path, file, blocks, rounds),
        last => measure_at_once(segments.into_iter().chain(last).map(|(_, file)| file), blocks * rounds),
    }
}

/// The segment's file, removed however this ends.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Zero-fills past the page cache: large folios in it would make every small append write a megabyte.
fn prepare(path: &Path) -> std::io::Result<File> {
    let direct = i32::try_from(OFlags::DIRECT.bits()).expect("a flag");
    let mut filler = OpenOptions::new().write(true).create_new(true).custom_flags(direct).open(path)?;
    let zeros = MmapMut::map_anon(FILL_BYTES)?;
    for _ in 0..SEGMENT_BYTES / FILL_BYTES {
        filler.write_all(&zeros)?;
    }
    filler.sync_all()?;
    OpenOptions::new().read(true).write(true).open(path)
}

fn measure(path: &Path, file: File, blocks: usize, rounds: usize) {
    let path = path.to_owned();
    LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(IO_MEMORY)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
        .spawn(move || async move {
            let segment = Rc::new(RefCell::new(Segment::of(&file)));
            let ring = BufferedFile::open(&path).await.expect("the file exists");
            for size in SIZES {
                let (mut by_ring, mut by_call) = (Vec::new(), Vec::new());
                for _ in 0..blocks {
                    for _ in 0..rounds {
                        let start = Instant::now();
                        segment.borrow_mut().append(size);
                        ring.fdatasync().await.expect("fdatasync");
                        by_ring.push(start.elapsed());
                    }
                    for _ in 0..rounds {
                        let start = Instant::now();
                        segment.borrow_mut().append(size);
                        file.sync_data().expect("fdatasync");
                        by_call.push(start.elapsed());
                    }
                }
                print(size, "mapped copy, fdatasync in the ring", by_ring);
                print(size, "mapped copy, fdatasync call", by_call);
            }
            ring.close().await.expect("close");
        })
        .expect("io_uring is available")
        .join()
        .expect("the executor does not panic");
}

/// All begin together, and each of them goes on until it has done its rounds.
fn measure_at_once(files: impl Iterator<Item = File>, rounds: usize) {
    let mut segments: Vec<(Segment, File)> = files.map(|file| (Segment::of(&file), file)).collect();
    let (size, start) = (SIZES[0], Barrier::new(segments.len()));
    let by_loop: Vec<Vec<Duration>> = thread::scope(|scope| {
        let loops: Vec<_> = segments.iter_mut().map(|(segment, file)| scope.spawn(|| sync_rounds(segment, file, rounds, &start))).collect();
        loops.into_iter().map(|l| l.join().expect("a loop does not panic")).collect()
    });
    print(size, "mapped copy, fdatasync call, at once", by_loop.concat());
}

fn sync_rounds(segment: &mut Segment, file: &File, rounds: usize, start: &Barrier) -> Vec<Duration> {
    start.wait();
    let round = |_| {
        let start = Instant::now();
        segment.append(SIZES[0]);
        file.sync_data().expect("fdatasync");
        start.elapsed()
    };
    (0..rounds).map(round).collect()
}

struct Segment {
    map: MmapMut,
    at: usize,
}

impl Segment {
    fn of(file: &File) -> Self {
        // SAFETY: the file is this program's own, was fully allocated by `prepare`, and nobody truncates it.
        let map = unsafe { MmapOptions::new().len(SEGMENT_BYTES).map_mut(file) }.expect("a regular file can be mapped");
        Segment { map, at: 0 }
    }

    /// Copies a record behind the last one; at the end it starts again from the front.
    fn append(&mut self, size: usize) {
        if self.at + size > SEGMENT_BYTES {
            self.at = 0;
        }
        // Another byte each time, so that the page really changes.
        let byte = (self.at / size) as u8 | 1;
        self.map[self.at..self.at + size].fill(byte);
        self.at += size;
    }
}

fn print(size: usize, way: &str, mut took: Vec<Duration>) {
    took.sort();
    let us = |q: f64| took[((took.len() - 1) as f64 * q) as usize].as_secs_f64() * 1e6;
    println!("{size:>6} B, {way:<36}  p10 {:>6.1}  p50 {:>6.1}  p99 {:>7.1} µs  ({} rounds)", us(0.1), us(0.5), us(0.99), took.len());
}
