//! Byte layouts and file names of a ZooKeeper data directory.
//!
//! ```text
//! log.<hex zxid of its first record>
//!   "ZKLG" | version 2, i32 | dbid, i64 | record | record | … | zero padding
//!
//! snapshot.<hex zxid>[.gz|.snappy]
//!   "ZKSN" | version 2, i32 | dbid -1, i64
//!   sessions: count | (id, timeout)…        ACL table: count | (id, list)…
//!   nodes: (path, data, acl, stat 60 bytes)…   end: path "/"
//!   seal:  Adler-32 of everything before, i64 | "/"
//!   digest section, optional:     zxid, version 2, digest | seal
//!   last-zxid section, optional:  zxid | seal
//! ```
//! Files of ours that ZooKeeper must not take for its own begin with `zoo-`.

use crate::base::{Reader, Writer, Zxid};

/// "ZKLG".
pub const LOG_MAGIC: u32 = 0x5a4b_4c47;
/// "ZKSN".
pub const SNAPSHOT_MAGIC: u32 = 0x5a4b_534e;
/// The only version of both formats.
pub const FORMAT_VERSION: i32 = 2;
/// Bytes of either file header.
pub const FILE_HEADER_BYTES: usize = 16;
/// The durable mark (rule A23).
pub const MARK_FILE: &str = "zoo-mark";
/// Held locked while a server uses the directory.
pub const LOCK_FILE: &str = "zoo-lock";
/// Prefix of prepared log segments (rule A20).
pub const SPARE_PREFIX: &str = "zoo-spare.";
/// Prefix of files that are being written; left over only by a crash.
pub const TEMP_PREFIX: &str = "zoo-tmp.";
/// Prefix of copies kept by a repair.
pub const KEPT_PREFIX: &str = "zoo-kept.";
/// Marker file an operator creates beside `version-2` to allow a start from an empty directory.
pub const INITIALIZE_FILE: &str = "initialize";
/// What `initialize` becomes in the directory of a member that is empty: an operator vouches that it always was, until there is something.
pub const VOUCHED_FILE: &str = "zoo-vouched";
/// The directory inside dataDir and dataLogDir.
pub const VERSION_DIR: &str = "version-2";

/// First 16 bytes of a log or snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileHeader {
    /// `LOG_MAGIC` or `SNAPSHOT_MAGIC`.
    pub magic: u32,
    /// Not checked by readers, as in ZooKeeper.
    pub version: i32,
    /// 0 in ZooKeeper's logs, -1 in snapshots, a random id in our logs.
    pub dbid: i64,
}

impl FileHeader {
    /// Header of a log.
    #[must_use]
    pub const fn log(dbid: i64) -> Self {
        FileHeader { magic: LOG_MAGIC, version: FORMAT_VERSION, dbid }
    }
    /// Header of a snapshot.
    #[must_use]
    pub const fn snapshot() -> Self {
        FileHeader { magic: SNAPSHOT_MAGIC, version: FORMAT_VERSION, dbid: -1 }
    }
    /// Reads 16 bytes; `None` if there are fewer.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut r = Reader::new(bytes);
        Some(FileHeader { magic: r.i32().ok()? as u32, version: r.i32().ok()?, dbid: r.i64().ok()? })
    }
    /// Writes 16 bytes.
    pub fn write(&self, out: &mut impl Writer) {
        out.put_i32(self.magic as i32);
        out.put_i32(self.version);
        out.put_i64(self.dbid);
    }
}

/// How a snapshot file is stored; its checksums are always over the plain bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// One gzip member.
    Gzip,
    /// Xerial's framing of snappy blocks.
    Snappy,
}

impl Compression {
    /// Suffix of the file name.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Compression::None => "",
            Compression::Gzip => ".gz",
            Compression::Snappy => ".snappy",
        }
    }
    /// From the value of `snapshot.compression.method`.
    #[must_use]
    pub fn from_setting(value: &str) -> Option<Self> {
        match value {
            "" => Some(Compression::None),
            "gz" => Some(Compression::Gzip),
            "snappy" => Some(Compression::Snappy),
            _ => None,
        }
    }
}

/// A file in a data directory that holds history.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FileKind {
    /// A log whose first record has this zxid.
    Log(Zxid),
    /// A snapshot of the state at this zxid.
    Snapshot(Zxid, Compression),
}

impl FileKind {
    /// What a file of this name is; `None` for everything else.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let (kind, zxid, suffix) = (parts.next()?, parse_hex(parts.next()?)?, parts.next());
        let compression = match suffix {
            None => Compression::None,
            Some("gz") => Compression::Gzip,
            Some("snappy") => Compression::Snappy,
            Some(_) => return None,
        };
        match (kind, parts.next()) {
            ("log", None) if suffix.is_none() => Some(FileKind::Log(zxid)),
            ("snapshot", None) => Some(FileKind::Snapshot(zxid, compression)),
            _ => None,
        }
    }
    /// The zxid in the name.
    #[must_use]
    pub const fn zxid(self) -> Zxid {
        match self {
            FileKind::Log(z) | FileKind::Snapshot(z, _) => z,
        }
    }
    /// The file's name.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            FileKind::Log(z) => format!("log.{:x}", z.0),
            FileKind::Snapshot(z, c) => format!("snapshot.{:x}{}", z.0, c.suffix()),
        }
    }
}

/// Lower-case hex without sign, prefix or padding, as ZooKeeper writes it: only then does `name` give the same file again.
fn parse_hex(text: &str) -> Option<Zxid> {
    let value = u64::from_str_radix(text, 16).ok()?;
    (format!("{value:x}") == text && value <= i64::MAX as u64).then_some(Zxid(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_history_files_read_back_and_others_are_ignored() {
        for name in ["log.1", "log.10000000a", "snapshot.0", "snapshot.23.gz", "snapshot.23.snappy"] {
            assert_eq!(FileKind::parse(name).map(FileKind::name).as_deref(), Some(name));
        }
        for name in [
            "log",
            "log.",
            "log.x",
            "log.01",
            "log.A",
            "log.+1",
            "log.1.gz",
            "log.1.bak",
            "snapshot.1.tmp",
            "snapshot.1.gz.x",
            "logs.1",
            MARK_FILE,
            "zoo-spare.1",
        ] {
            assert_eq!(FileKind::parse(name), None, "{name}");
        }
    }

    #[test]
    fn our_own_files_are_never_taken_for_history() {
        for name in [MARK_FILE, LOCK_FILE, VOUCHED_FILE, SPARE_PREFIX, TEMP_PREFIX, KEPT_PREFIX] {
            assert!(!name.starts_with("log.") && !name.starts_with("snapshot."), "{name}");
        }
    }
}
