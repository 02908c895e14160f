//! Blocking file work, done off the reactors: preparing, mapping, naming and cutting log segments; durable replacement of small files;
//! directory scans and locks. The only module that maps files.
//!
//! Knows paths, bytes and file descriptors. Never knows what is in a file: names are given to it.
//!
//! Nothing here retries a failed sync: the error is handed up, and the server stops (L12).
#![allow(unsafe_code)]

mod ahead;
pub mod dir;
pub mod flush;
pub mod lost_page;
pub mod mapping;
pub mod segments;

pub use ahead::ReadAheadFile;
pub use dir::{Background, DirLock, replace_file, sync_dir};
pub use flush::Flush;
pub use mapping::{LogFile, LogWriter, MapRefusal, MarkFile};
pub use segments::{SegmentEvent, Segments, SegmentsConfig};
