//! What an append to a prepared segment costs the disk. Alone in its process, because it reads the process's I/O counters.

use std::sync::mpsc;
use std::time::Duration;
use zoo::disk::{LogFile, LogWriter, SegmentEvent, Segments, SegmentsConfig};

/// Bytes this process has caused to be written, as the kernel accounts them when pages become dirty or go out directly.
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").expect("readable");
    let line = io.lines().find_map(|l| l.strip_prefix("write_bytes: ")).expect("present");
    line.parse().expect("a number")
}

fn segment(dir: &std::path::Path, segment_bytes: u64, writer: LogWriter) -> (Segments, LogFile) {
    let (tx, events) = mpsc::channel();
    let config = SegmentsConfig { dir: dir.to_path_buf(), segment_bytes, spare_prefix: "zoo-spare.", writer, mark: None };
    let mut segments = Segments::start(config, move |e| drop(tx.send(e))).expect("started");
    let file = segments.take(0, segment_bytes).unwrap_or_else(|| match events.recv_timeout(Duration::from_secs(60)) {
        Ok(SegmentEvent::Taken { file, .. }) => file,
        other => panic!("{other:?}"),
    });
    (segments, file)
}

/// A segment filled through the page cache keeps large folios there, and then every small append writes a whole folio: up to 1 MiB.
#[test]
fn small_appends_to_a_prepared_segment_write_little() {
    const APPENDS: u64 = 100;
    const LIMIT: u64 = 16 << 10;
    // Not in the system's temporary directory, which may be a tmpfs, where nothing is ever written.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temp dir");
    for writer in [LogWriter::Direct, LogWriter::Map, LogWriter::Pwrite] {
        let (_segments, mut file) = segment(dir.path(), 8 << 20, writer);
        if file.writer() != writer {
            eprintln!("SKIPPED: this file system does not take {writer:?}");
            continue;
        }
        // The first append after preparing may count what preparing left behind.
        file.write(0, &[1; 100]).and_then(|()| file.sync()).expect("written");
        let before = written_bytes();
        for i in 1..=APPENDS {
            // Spread over two windows of read-ahead, where a segment need not be written from front to back.
            let apart = if writer == LogWriter::Direct { 100 } else { 20_000 };
            file.write(i * apart, &[7; 100]).and_then(|()| file.sync()).expect("written");
        }
        let each = (written_bytes() - before) / APPENDS;
        println!("{writer:?}: {each} bytes written per append of 100");
        assert!(each <= LIMIT, "{each} bytes per append of 100 ({writer:?})");
    }
}
