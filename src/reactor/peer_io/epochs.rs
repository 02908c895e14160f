//! The epoch files of this server, written one after the other off the reactor (A24).

use super::Events;
use super::queue::LocalQueue;
use super::snapshot_in::History;
use crate::disk::dir;
use crate::reactor::{fatal, on_thread};
use crate::record::epochs::{ACCEPTED_EPOCH_FILE, CURRENT_EPOCH_FILE, StoredEpoch};
use crate::storage::format::{TEMP_PREFIX, VOUCHED_FILE};
use crate::zab::{EpochFile, EpochToken, Input};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

/// One write that is wanted.
pub struct EpochWrite {
    /// To be given back.
    pub token: EpochToken,
    /// Which file.
    pub file: EpochFile,
    /// Its content.
    pub epoch: u32,
    /// This disk says before that it has lost nothing.
    pub vouches: bool,
}

/// Writes what is asked for until the task is dropped. A failure ends the process: without it no promise could be kept (L7).
pub async fn write_epochs(dir: PathBuf, history: Arc<dyn History>, wanted: Rc<LocalQueue<EpochWrite>>, events: Rc<Events>) {
    loop {
        let EpochWrite { token, file, epoch, vouches } = wanted.next().await;
        let (to, in_use) = (dir.clone(), history.clone());
        let written = on_thread("zoo-epoch", move || {
            let vouched = if vouches { vouch(&to) } else { Ok(()) };
            let mut written = vouched.and_then(|()| write_epoch(&to, file, epoch));
            if file == EpochFile::Current {
                // There is a history: whoever takes that away must not leave behind what says that there never was one.
                written = written.and_then(|()| dir::remove(&to, [VOUCHED_FILE]));
            }
            drop(in_use); // only now may somebody else have the directory
            written
        })
        .await;
        if let Err(e) = written.and_then(|written| written) {
            fatal(&format!("writing {} in {} failed: {e}", name(file), dir.display()));
        }
        events.calls.push(Input::EpochWritten(token));
    }
}

/// Puts an epoch file in place, durably; may wait.
pub fn write_epoch(dir: &Path, file: EpochFile, epoch: u32) -> io::Result<()> {
    let name = name(file);
    let text = StoredEpoch(i64::from(epoch)).to_text();
    dir::replace_file(dir, &format!("{TEMP_PREFIX}{name}"), name, |out| out.write_all(text.as_bytes()))?;
    Ok(())
}

/// Says durably that what is empty here has never been anything else (L21); may wait.
pub fn vouch(dir: &Path) -> io::Result<()> {
    dir::replace_file(dir, &format!("{TEMP_PREFIX}{VOUCHED_FILE}"), VOUCHED_FILE, |_| Ok::<_, io::Error>(()))?;
    Ok(())
}

fn name(file: EpochFile) -> &'static str {
    match file {
        EpochFile::Accepted => ACCEPTED_EPOCH_FILE,
        EpochFile::Current => CURRENT_EPOCH_FILE,
    }
}
