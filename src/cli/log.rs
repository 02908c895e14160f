//! `zoo log`: shows, verifies and repairs transaction logs of this server or of a Java one, offline.

use super::dump::{date, parse_zxid, record_json, record_text};
use crate::base::Zxid;
use crate::disk::{DirLock, dir};
use crate::record::txn::decode_payload;
use crate::server::recovery::{LogDir, read_epochs, read_mark, write_mark};
use crate::server::snapshots;
use crate::storage::format::{Compression, FileHeader, FileKind, KEPT_PREFIX, LOCK_FILE, VERSION_DIR};
use crate::storage::recover::{self, CutPlan, ReplayError, ReplayPlan, plan_cut};
use crate::storage::segment::{Record, RecordReader, Rest, Stop, StopReason};
use clap::{Args, Subcommand};
use serde_json::json;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

/// Show, verify or repair transaction logs, of this server or a Java one.
#[derive(Args)]
pub struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Subcommand)]
enum LogCommand {
    /// Print every transaction of a log.
    Print {
        /// A log file.
        file: PathBuf,
        /// One JSON object per line: the header, then the records.
        #[arg(long)]
        json: bool,
    },
    /// Check a log file, or all logs of a directory as a server would at its start.
    Verify {
        /// A log file or a directory with logs.
        path: PathBuf,
    },
    /// Remove every transaction after a zxid, and all damage behind it. Committed transactions are lost by this.
    Repair {
        /// The directory with the logs.
        dir: PathBuf,
        /// The last transaction that stays, such as 0x1f.
        #[arg(long, value_name = "ZXID", value_parser = parse_zxid)]
        cut_after: Zxid,
        /// Where snapshots are, if not beside the logs.
        #[arg(long, value_name = "DIR")]
        snapshots: Option<PathBuf>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

/// Runs it; `Ok(false)` means that something is wrong with a log, and that it was said.
pub fn run(args: &LogArgs, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<bool, String> {
    match &args.command {
        LogCommand::Print { file, json } => print(file, *json, out),
        LogCommand::Verify { path } if path.is_dir() => verify_dir(&version_dir(path), out),
        LogCommand::Verify { path } => verify_file(path, out),
        LogCommand::Repair { dir, cut_after, snapshots, yes } => {
            let dir = version_dir(dir);
            let snapshots = snapshots.as_deref().map_or_else(|| dir.clone(), version_dir);
            Repair { dir, snapshots, cut_after: *cut_after }.run(*yes, input, out)
        }
    }
}

/// The directory itself, or `version-2` in it if it is a dataDir.
fn version_dir(dir: &Path) -> PathBuf {
    let inner = dir.join(VERSION_DIR);
    if inner.is_dir() { inner } else { dir.to_path_buf() }
}

fn at(path: &Path) -> impl Fn(io::Error) -> String + '_ {
    move |e| format!("{}: {e}", path.display())
}

fn output(e: io::Error) -> String {
    format!("writing the output: {e}")
}

fn open(path: &Path) -> Result<(FileHeader, RecordReader<File>), String> {
    let opened = File::open(path).and_then(RecordReader::open);
    opened.map_err(at(path))?.map_err(|e| format!("{}: {e}", path.display()))
}

/// Hands every good record to `each`, then says how the file ends.
fn walk(
    path: &Path,
    mut reader: RecordReader<File>,
    mut each: impl FnMut(&Record<'_>) -> Result<(), String>,
) -> Result<(u64, Stop, Rest, Zxid), String> {
    let mut records = 0;
    let stop = loop {
        match reader.next().map_err(at(path))? {
            Ok(record) => each(&record)?,
            Err(stop) => break stop,
        }
        records += 1;
    };
    let last = reader.last_zxid();
    Ok((records, stop, reader.examine_rest().map_err(at(path))?, last))
}

fn print(path: &Path, json: bool, out: &mut dyn Write) -> Result<bool, String> {
    let (header, reader) = open(path)?;
    if json {
        let head = json!({ "header": { "magic": format!("{:#x}", header.magic), "version": header.version, "dbid": header.dbid } });
        writeln!(out, "{head}").map_err(output)?;
    } else {
        let FileHeader { dbid, version, .. } = header;
        writeln!(out, "ZooKeeper Transactional Log File with dbid {dbid} txnlog format version {version}").map_err(output)?;
    }
    let mut good = true;
    let (records, stop, rest, _) = walk(path, reader, |record| {
        let line = if json { record_json(record).map(|v| v.to_string()) } else { record_text(record) };
        let line = line.unwrap_or_else(|e| {
            good = false;
            let h = record.header;
            format!(
                "UNDECODABLE - {} session {:#x} cxid {:#x} zxid {:#x} type {}: {e}",
                date(h.time.0),
                h.session.0,
                h.cxid.0,
                h.zxid.0,
                h.kind
            )
        });
        writeln!(out, "{line}").map_err(output)
    })?;
    let clean = rest.all_zero;
    if json {
        let end = json!({ "records": records, "data_end": stop.offset, "size": rest.file_bytes, "clean": clean, "stopped": stop.why.to_string() });
        writeln!(out, "{end}").map_err(output)?;
    } else {
        if !clean {
            writeln!(out, "{}", ending(&stop, &rest)).map_err(output)?;
        }
        writeln!(out, "EOF reached after {records} txns.").map_err(output)?;
    }
    Ok(clean && good)
}

fn ending(stop: &Stop, rest: &Rest) -> String {
    let prefix = match stop.why {
        StopReason::Frame(crate::record::frame::FrameError::BadChecksum { .. }) => "CRC ERROR - ",
        _ => "",
    };
    let behind =
        rest.last_record.map_or(String::from("no whole record follows"), |at| format!("the last whole record behind it is at offset {at}"));
    format!("{prefix}offset {}: {}; {behind}", stop.offset, stop.why)
}

fn verify_file(path: &Path, out: &mut dyn Write) -> Result<bool, String> {
    let (_, reader) = open(path)?;
    let mut problems = Vec::new();
    let mut before: Option<Zxid> = None;
    let (records, stop, rest, last) = walk(path, reader, |record| {
        let zxid = record.header.zxid;
        if before.is_some_and(|b| !recover::follows(b, zxid)) {
            problems.push(format!("offset {}: {zxid} does not follow the transaction before it", record.offset));
        }
        before = Some(zxid);
        if let Err(e) = decode_payload(record.payload) {
            problems.push(format!("offset {}: {zxid} cannot be decoded: {e}", record.offset));
        }
        Ok(())
    })?;
    if !rest.all_zero {
        problems.push(ending(&stop, &rest));
    }
    for problem in &problems {
        writeln!(out, "{}: {problem}", path.display()).map_err(output)?;
    }
    if problems.is_empty() {
        writeln!(out, "{}: good, {records} transactions up to {last}", path.display()).map_err(output)?;
    }
    Ok(problems.is_empty())
}

/// As a server would read them: from the newest whole snapshot on.
fn verify_dir(dir: &Path, out: &mut dyn Write) -> Result<bool, String> {
    let (logs, mut all) = files(dir)?;
    all.sort();
    let whole = |(zxid, compression): &&(Zxid, Compression)| snapshots::check(dir, *zxid, *compression).is_ok();
    let after = all.iter().rev().find(whole).map_or(Zxid::ZERO, |(zxid, _)| *zxid);
    let epochs = read_epochs(dir).map_err(at(dir))?;
    let mark = read_mark(dir, &epochs).map_err(at(dir))?;
    let plan = ReplayPlan { logs: &logs, after, mark, epochs };
    let mut decode = |log: Zxid, record: &Record<'_>| {
        decode_payload(record.payload).map(drop).map_err(|e| format!("{}, offset {}: {e}", FileKind::Log(log).name(), record.offset))
    };
    let message = match recover::replay(&mut LogDir(dir), &plan, &mut decode) {
        Ok(end) => {
            let torn = if end.torn { ", then a torn record that was never acknowledged" } else { "" };
            writeln!(out, "{}: good, {} transactions from {after} up to {}{torn}", dir.display(), end.replayed, end.last_zxid)
                .map_err(output)?;
            return Ok(true);
        }
        Err(ReplayError::Io { log, error }) => return Err(format!("{}: {error}", dir.join(FileKind::Log(log).name()).display())),
        Err(ReplayError::Corrupt(corruption)) => corruption.to_string(),
        Err(ReplayError::Refused(why)) => why,
    };
    writeln!(out, "{}: DAMAGED: {message}", dir.display()).map_err(output)?;
    Ok(false)
}

type Snapshots = Vec<(Zxid, Compression)>;

/// Logs, ascending, and snapshots.
fn files(dir: &Path) -> Result<(Vec<Zxid>, Snapshots), String> {
    let (mut logs, mut snapshots) = (Vec::new(), Vec::new());
    for file in snapshots::history_files(dir).map_err(at(dir))? {
        match file {
            FileKind::Log(zxid) => logs.push(zxid),
            FileKind::Snapshot(zxid, compression) => snapshots.push((zxid, compression)),
        }
    }
    logs.sort();
    Ok((logs, snapshots))
}

/// Cuts a history on an operator's order, keeping a copy of everything it takes away.
struct Repair {
    dir: PathBuf,
    snapshots: PathBuf,
    cut_after: Zxid,
}

impl Repair {
    fn run(&self, yes: bool, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<bool, String> {
        let lock = DirLock::acquire(&self.dir, LOCK_FILE).map_err(at(&self.dir))?;
        let _lock = lock.ok_or_else(|| format!("a server uses {}: stop it first", self.dir.display()))?;
        let (logs, _) = files(&self.dir)?;
        let plan = plan_cut(&mut LogDir(&self.dir), &logs, self.cut_after).map_err(at(&self.dir))?;
        let (_, snapshots) = files(&self.snapshots)?;
        let snapshots = snapshots.into_iter().map(|(zxid, compression)| (zxid > self.cut_after, FileKind::Snapshot(zxid, compression)));
        let (newer, older): (Vec<_>, Vec<_>) = snapshots.partition(|(newer, _)| *newer);
        let [newer, older] = [newer, older].map(|files| files.into_iter().map(|(_, file)| file).collect::<Vec<_>>());
        if plan.cut.is_none() && plan.remove.is_empty() && newer.is_empty() {
            writeln!(out, "Nothing to do: there is nothing after {}.", self.cut_after).map_err(output)?;
            return Ok(true);
        }
        self.explain(&plan, &newer, out)?;
        if !(yes || confirmed(input, out)?) {
            writeln!(out, "Nothing was changed.").map_err(output)?;
            return Ok(false);
        }
        self.perform(&plan, &newer, &older).map_err(at(&self.dir))?;
        writeln!(out, "Done. What was taken away is kept in files named {KEPT_PREFIX}*; they are not read by any server.")
            .map_err(output)?;
        Ok(true)
    }

    fn explain(&self, plan: &CutPlan, newer: &[FileKind], out: &mut dyn Write) -> Result<(), String> {
        let mut lines = Vec::new();
        match plan.last {
            Some(last) if last < self.cut_after => lines.push(format!("The last good transaction up to {} is {last}.", self.cut_after)),
            Some(_) => {}
            None => lines.push(format!("No log holds a good transaction up to {}.", self.cut_after)),
        }
        if let Some((log, bytes)) = plan.cut {
            lines.push(format!("{} is cut to {bytes} bytes.", FileKind::Log(log).name()));
        }
        lines.extend(plan.remove.iter().map(|log| format!("{} is taken away.", FileKind::Log(*log).name())));
        lines.extend(newer.iter().map(|file| format!("{} is taken away: it is newer than that.", file.name())));
        lines.push("Transactions in these parts may have been acknowledged to clients. A copy is kept.".to_owned());
        lines.iter().try_for_each(|line| writeln!(out, "{line}")).map_err(output)
    }

    /// What stays is made durable, which a server without forceSync may not have done. Then the mark (rule A23), then snapshots, then logs from
    /// the newest on: a crash in between leaves a history that a second run finishes.
    fn perform(&self, plan: &CutPlan, newer: &[FileKind], older: &[FileKind]) -> io::Result<()> {
        dir::sync_files(&self.dir, plan.keep.iter().map(|log| FileKind::Log(*log).name()))?;
        dir::sync_files(&self.snapshots, older.iter().map(|file| file.name()))?;
        write_mark(&self.dir, None)?;
        for file in newer {
            take_away(&self.snapshots, &file.name())?;
        }
        for log in &plan.remove {
            take_away(&self.dir, &FileKind::Log(*log).name())?;
        }
        if let Some((log, bytes)) = plan.cut {
            let name = FileKind::Log(log).name();
            let kept = free_name(&self.dir, &name);
            dir::replace_file(&self.dir, &format!("{kept}.part"), &kept, |copy| {
                io::copy(&mut File::open(self.dir.join(&name))?, copy).map(drop)
            })?;
            dir::cut(&self.dir.join(&name), bytes)?;
        }
        dir::sync_dir(&self.dir)
    }
}

fn take_away(dir: &Path, name: &str) -> io::Result<()> {
    dir::rename(dir, name, &free_name(dir, name))
}

/// A name for a copy that does not replace an earlier one.
fn free_name(dir: &Path, name: &str) -> String {
    let candidates = (1u32..).map(|n| format!("{KEPT_PREFIX}{n}.{name}"));
    candidates.into_iter().find(|c| !dir.join(c).exists()).unwrap_or_else(|| format!("{KEPT_PREFIX}{name}"))
}

fn confirmed(input: &mut dyn BufRead, out: &mut dyn Write) -> Result<bool, String> {
    write!(out, "Go on (yes/no)? ").and_then(|()| out.flush()).map_err(output)?;
    let mut answer = String::new();
    input.read_line(&mut answer).map_err(|e| format!("reading the answer: {e}"))?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
