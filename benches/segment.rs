//! The log's append as the server does it, in all its ways, beside a bare loop: collect and write whole blocks directly, copy into a map, or
//! pwrite, each into a prepared segment with one blocking flush; and the same pwrite and fdatasync without any of our code. Ways take turns,
//! so that the disk's moods fall on all. The append alone is shown too: it is what could stall a reactor (rule A21).
//!
//! `cargo bench --bench segment [-- --dir DIR]` (default: cargo's target directory, not the system's temporary one, which may be a tmpfs).

use hdrhistogram::Histogram;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Instant;
use zoo::disk::segments::{Pace, create_zeroed};
use zoo::disk::{LogFile, LogWriter, SegmentEvent, Segments, SegmentsConfig};

const SEGMENT_BYTES: u64 = 64 << 20;
const SIZES: [usize; 3] = [100, 4 << 10, 64 << 10];
const BLOCKS: usize = 8;
const ROUNDS_PER_BLOCK: usize = 100;

/// One way of appending.
trait Way {
    fn append(&mut self, offset: u64, bytes: &[u8]);
    fn sync(&mut self);
}

impl Way for LogFile {
    fn append(&mut self, offset: u64, bytes: &[u8]) {
        self.write(offset, bytes).expect("written");
    }
    fn sync(&mut self) {
        LogFile::sync(self).expect("synced");
    }
}

struct Bare(File);

impl Way for Bare {
    fn append(&mut self, offset: u64, bytes: &[u8]) {
        self.0.write_all_at(bytes, offset).expect("written");
    }
    fn sync(&mut self) {
        self.0.sync_data().expect("synced");
    }
}

struct Lane {
    name: &'static str,
    way: Box<dyn Way>,
    offset: u64,
    append: Histogram<u64>,
    durable: Histogram<u64>,
}

fn segment(dir: &Path, writer: LogWriter, spare_prefix: &'static str) -> (Segments, LogFile) {
    let (tx, events) = mpsc::channel();
    let config = SegmentsConfig { dir: dir.to_path_buf(), segment_bytes: SEGMENT_BYTES, spare_prefix, writer, mark: None };
    let mut segments = Segments::start(config, move |e| drop(tx.send(e))).expect("started");
    let file = segments.take(0, SEGMENT_BYTES).unwrap_or_else(|| match events.recv() {
        Ok(SegmentEvent::Taken { file, .. }) => file,
        other => panic!("{other:?}"),
    });
    (segments, file)
}

fn major_faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("readable");
    // The fields after the command's name, which may hold spaces.
    let fields = stat.rsplit(')').next().expect("a stat line").split_whitespace();
    fields.skip(9).step_by(1).next().and_then(|f| f.parse().ok()).expect("a number")
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|a| a == "--dir").and_then(|at| args.get(at + 1));
    let parent = at.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let (blocks, rounds) = if args.iter().any(|a| a == "--bench") { (BLOCKS, ROUNDS_PER_BLOCK) } else { (1, 3) };
    println!("in {}, {} rounds of each; microseconds: append alone, then append and fdatasync", parent.display(), blocks * rounds);
    for size in SIZES {
        let dir = parent.join(format!("segment-bench.{}.{size}", std::process::id()));
        std::fs::create_dir(&dir).expect("created");
        run(&dir, size, blocks, rounds);
        std::fs::remove_dir_all(&dir).expect("made by this program");
    }
}

fn run(dir: &Path, size: usize, blocks: usize, rounds: usize) {
    let (direct_segments, direct) = segment(dir, LogWriter::Direct, "direct.");
    let (mapped_segments, mapped) = segment(dir, LogWriter::Map, "mapped.");
    let (plain_segments, plain) = segment(dir, LogWriter::Pwrite, "pwrite.");
    for file in [&direct, &mapped] {
        println!("{} is written by {:?}", file.path().display(), file.writer());
    }
    let bare = Bare(create_zeroed(&dir.join("bare"), SEGMENT_BYTES, &Pace::default()).expect("prepared").0);
    let lane = |name, way| Lane { name, way, offset: 0, append: histogram(), durable: histogram() };
    let mut lanes = [
        lane("direct", Box::new(direct) as Box<dyn Way>),
        lane("mapped", Box::new(mapped)),
        lane("pwrite", Box::new(plain)),
        lane("bare loop", Box::new(bare)),
    ];
    let bytes = vec![7u8; size];
    let faults_before = major_faults();
    for _ in 0..blocks {
        for lane in &mut lanes {
            (0..rounds).for_each(|_| lane.round(&bytes));
        }
    }
    let faults = major_faults() - faults_before;
    for lane in &lanes {
        println!("{size:>6} B  {:<10} {}   {}", lane.name, percentiles(&lane.append), percentiles(&lane.durable));
    }
    println!("          major faults: {faults}");
    drop(lanes);
    direct_segments.stop();
    mapped_segments.stop();
    plain_segments.stop();
}

impl Lane {
    fn round(&mut self, bytes: &[u8]) {
        let start = Instant::now();
        self.way.append(self.offset, bytes);
        let appended = start.elapsed();
        self.way.sync();
        let durable = start.elapsed();
        self.append.saturating_record(appended.as_nanos() as u64);
        self.durable.saturating_record(durable.as_nanos() as u64);
        self.offset += bytes.len() as u64;
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds")
}

fn percentiles(h: &Histogram<u64>) -> String {
    let at = |q: f64| h.value_at_quantile(q) as f64 / 1000.0;
    format!("p50 {:>7.1} p99 {:>8.1} p99.9 {:>8.1}", at(0.5), at(0.99), at(0.999))
}
