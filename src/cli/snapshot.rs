//! `zoo snapshot`: shows, verifies and compares snapshots of this server or of a Java one, offline. Plain, gzip or snappy, by the file's name.

use super::dump::{acl_json, date, node_json, shown_path};
use crate::base::{DecodeError, Zxid};
use crate::record::TxnDigest;
use crate::storage::format::{Compression, FileKind};
use crate::storage::snapshot::Snapshot;
use crate::storage::snapshot_body::{BodyReader, NodeEntry, PersistedStat};
use crate::tree::{ImageDigest, TreeConfig, load_image};
use base64::Engine;
use clap::{Args, Subcommand};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};

/// Show, verify or compare snapshots, of this server or a Java one.
#[derive(Args)]
pub struct SnapshotArgs {
    #[command(subcommand)]
    command: SnapshotCommand,
}

#[derive(Subcommand)]
enum SnapshotCommand {
    /// Print every node, session and section.
    Print {
        /// A snapshot file.
        file: PathBuf,
        /// One JSON object per line: sections, then nodes.
        #[arg(long, conflicts_with = "data")]
        json: bool,
        /// Print each node's data in base64 rather than its length.
        #[arg(long, short)]
        data: bool,
    },
    /// Check structure, checksums, and the digest where it can be computed.
    Verify {
        /// Snapshot files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// List the nodes and sessions in which two snapshots differ.
    Compare {
        /// One.
        left: PathBuf,
        /// The other.
        right: PathBuf,
    },
}

/// Runs it; `Ok(false)` means that a snapshot is bad or that two differ, and that it was said.
pub fn run(args: &SnapshotArgs, out: &mut dyn Write) -> Result<bool, String> {
    match &args.command {
        SnapshotCommand::Print { file, json: true, .. } => print_json(&read(file)?, out).map(|()| true),
        SnapshotCommand::Print { file, data, .. } => print_text(&read(file)?, *data, out).map(|()| true),
        SnapshotCommand::Verify { files } => {
            let results = files.iter().map(|file| verify(file, out)).collect::<Result<Vec<_>, _>>()?;
            Ok(results.into_iter().all(|good| good))
        }
        SnapshotCommand::Compare { left, right } => compare(&read(left)?, &read(right)?, out),
    }
}

fn compression(path: &Path) -> Compression {
    match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => Compression::Gzip,
        Some("snappy") => Compression::Snappy,
        _ => Compression::None,
    }
}

fn read(path: &Path) -> Result<Snapshot, String> {
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Snapshot::read(BufReader::new(file), compression(path)).map_err(|e| format!("{} {e}", path.display()))
}

fn output(e: io::Error) -> String {
    format!("writing the output: {e}")
}

fn bad(e: DecodeError) -> String {
    format!("the snapshot's body cannot be decoded: {e}")
}

fn print_json(snapshot: &Snapshot, out: &mut dyn Write) -> Result<(), String> {
    let mut body = BodyReader::new(snapshot.body());
    let sessions: Vec<_> =
        body.sessions().map_err(bad)?.iter().map(|(id, t)| json!({ "id": format!("{:#x}", id.0), "timeout": t })).collect();
    let acls: Vec<_> = body.acls().map_err(bad)?.iter().map(|(id, acl)| json!({ "id": id, "acl": acl_json(*acl) })).collect();
    let digest = snapshot
        .sections
        .digest
        .map(|d| json!({ "zxid": format!("{:#x}", d.zxid.0), "digestVersion": d.version, "digest": format!("{:#x}", d.digest) }));
    let last = snapshot.sections.last_zxid.map(|z| format!("{:#x}", z.0));
    let head = json!({ "sessions": sessions, "acls": acls, "zxid_digest": digest, "last_processed_zxid": last });
    writeln!(out, "{head}").map_err(output)?;
    while let Some(node) = body.next_node().map_err(bad)? {
        writeln!(out, "{}", node_json(&node)).map_err(output)?;
    }
    Ok(())
}

fn print_text(snapshot: &Snapshot, with_data: bool, out: &mut dyn Write) -> Result<(), String> {
    let mut body = BodyReader::new(snapshot.body());
    let sessions = body.sessions().map_err(bad)?;
    body.acls().map_err(bad)?;
    let mut count = 0;
    let mut ephemerals: BTreeMap<i64, u64> = BTreeMap::new();
    let mut nodes = body.clone();
    while let Some(node) = nodes.next_node().map_err(bad)? {
        count += 1;
        *ephemerals.entry(node.stat.ephemeral_owner).or_default() += 1;
    }
    writeln!(out, "ZNode Details (count={count}):").map_err(output)?;
    while let Some(node) = body.next_node().map_err(bad)? {
        print_node(&node, with_data, out).map_err(output)?;
    }
    writeln!(out, "----\nSession Details (sid, timeout, ephemeralCount):").map_err(output)?;
    for (id, timeout) in sessions {
        writeln!(out, "{:#x}, {timeout}, {}", id.0, ephemerals.get(&id.0).unwrap_or(&0)).map_err(output)?;
    }
    if let Some(digest) = snapshot.sections.digest {
        writeln!(out, "Target zxid digest is: {:x}, {}", digest.zxid.0, digest.digest).map_err(output)?;
    }
    if let Some(last) = snapshot.sections.last_zxid {
        writeln!(out, "----\nLast zxid: {:#x}", last.0).map_err(output)?;
    }
    Ok(())
}

fn print_node(node: &NodeEntry<'_>, with_data: bool, out: &mut dyn Write) -> io::Result<()> {
    let PersistedStat { czxid, mzxid, ctime, mtime, version, cversion, aversion, ephemeral_owner, pzxid } = node.stat;
    writeln!(out, "----\n{}", if node.path.is_empty() { "/".to_owned() } else { shown_path(node.path) })?;
    writeln!(out, "  cZxid = 0x{:014x}\n  ctime = {}", czxid.0, date(ctime))?;
    writeln!(out, "  mZxid = 0x{:014x}\n  mtime = {}", mzxid.0, date(mtime))?;
    writeln!(out, "  pZxid = 0x{:014x}\n  cversion = {cversion}\n  dataVersion = {version}\n  aclVersion = {aversion}", pzxid.0)?;
    writeln!(out, "  ephemeralOwner = 0x{ephemeral_owner:014x}")?;
    match node.data.filter(|_| with_data) {
        Some(data) => writeln!(out, "  data = {}", base64::engine::general_purpose::STANDARD.encode(data)),
        None => writeln!(out, "  dataLength = {}", node.data.map_or(0, <[u8]>::len)),
    }
}

fn verify(path: &Path, out: &mut dyn Write) -> Result<bool, String> {
    let verdict = read(path).and_then(|snapshot| load(path, &snapshot).map_err(|e| format!("{} {e}", path.display())));
    match &verdict {
        Ok(what) => writeln!(out, "{}: good, {what}", path.display()).map_err(output)?,
        Err(why) => writeln!(out, "{why}").map_err(output)?,
    }
    Ok(verdict.is_ok())
}

/// Builds the tree, as a server would; says what is in it.
fn load(path: &Path, snapshot: &Snapshot) -> Result<String, String> {
    let name = path.file_name().and_then(|n| n.to_str()).and_then(FileKind::parse);
    // Under another name only the sections tell of which zxid it is.
    let zxid = name.map(FileKind::zxid).or(snapshot.sections.last_zxid).unwrap_or(Zxid::ZERO);
    let digest = snapshot.sections.digest.map(|d| ImageDigest { zxid: d.zxid, digest: TxnDigest { version: d.version, digest: d.digest } });
    let config = TreeConfig { extended_types: true, digest_enabled: true, ..TreeConfig::default() };
    let (tree, _) = load_image(config, zxid, snapshot.body(), digest).map_err(|e| format!("cannot be loaded: {e}"))?;
    let digest = match tree.digest_matches(None) {
        Some(false) => return Err("does not have the digest it carries".to_owned()),
        Some(true) => "its digest matches",
        None => "without a digest to compare",
    };
    let counts = tree.counts();
    // The root is counted twice, as ZooKeeper does.
    Ok(format!("{} nodes and {} sessions at {zxid}, {digest}", counts.znodes.saturating_sub(1), counts.sessions))
}

/// A node without what two servers may number differently: its list rather than the list's number.
type Comparable<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, PersistedStat);

struct Content<'a> {
    sessions: BTreeMap<i64, i32>,
    nodes: BTreeMap<&'a str, Comparable<'a>>,
}

fn content(snapshot: &Snapshot) -> Result<Content<'_>, DecodeError> {
    let mut body = BodyReader::new(snapshot.body());
    let sessions = body.sessions()?.into_iter().map(|(id, timeout)| (id.0, timeout)).collect();
    let acls: BTreeMap<i64, &[u8]> = body.acls()?.into_iter().map(|(id, acl)| (id, acl.raw())).collect();
    let mut nodes = BTreeMap::new();
    while let Some(node) = body.next_node()? {
        nodes.insert(node.path, (node.data, acls.get(&node.acl).copied(), node.stat));
    }
    Ok(Content { sessions, nodes })
}

fn compare(left: &Snapshot, right: &Snapshot, out: &mut dyn Write) -> Result<bool, String> {
    let (left, right) = (content(left).map_err(bad)?, content(right).map_err(bad)?);
    let mut differences = 0;
    let mut differ = |line: String| {
        differences += 1;
        writeln!(out, "{line}").map_err(output)
    };
    for (path, node) in &left.nodes {
        match right.nodes.get(path) {
            None => differ(format!("- {}", shown_path(path)))?,
            Some(other) if other != node => differ(format!("! {}: {}", shown_path(path), changed(node, other)))?,
            Some(_) => {}
        }
    }
    for path in right.nodes.keys().filter(|p| !left.nodes.contains_key(*p)) {
        differ(format!("+ {}", shown_path(path)))?;
    }
    for (id, timeout) in &left.sessions {
        if right.sessions.get(id) != Some(timeout) {
            differ(format!("- session {id:#x}, timeout {timeout}"))?;
        }
    }
    for (id, timeout) in &right.sessions {
        if left.sessions.get(id) != Some(timeout) {
            differ(format!("+ session {id:#x}, timeout {timeout}"))?;
        }
    }
    writeln!(out, "{} and {} nodes, {differences} differences", left.nodes.len(), right.nodes.len()).map_err(output)?;
    Ok(differences == 0)
}

/// Which parts of a node differ.
fn changed(left: &Comparable<'_>, right: &Comparable<'_>) -> String {
    let (a, b) = (&left.2, &right.2);
    let parts = [
        ("data", left.0 != right.0),
        ("acl", left.1 != right.1),
        ("czxid", a.czxid != b.czxid),
        ("mzxid", a.mzxid != b.mzxid),
        ("pzxid", a.pzxid != b.pzxid),
        ("ctime", a.ctime != b.ctime),
        ("mtime", a.mtime != b.mtime),
        ("version", a.version != b.version),
        ("cversion", a.cversion != b.cversion),
        ("aversion", a.aversion != b.aversion),
        ("ephemeralOwner", a.ephemeral_owner != b.ephemeral_owner),
    ];
    parts.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
