//! The files in which a changing configuration lies beside the configuration file: `<file>.dynamic.<version>` for the one in force,
//! `<file>.dynamic.next` for one that is proposed. They are written as ZooKeeper writes them, which reads them when it takes our place.

use super::error::ConfigError;
use super::properties;
use crate::disk::dir;
use crate::reactor::peer_io::ConfigFiles;
use crate::zab::{ConfigWrite, Membership};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Between the name of the configuration file and a version in hex.
const DYNAMIC: &str = ".dynamic.";
/// In place of the version: what is proposed.
const NEXT: &str = "next";
/// The configuration file as it was before this server changed it.
const BACKUP: &str = ".bak";
/// While a file is being written.
const TEMPORARY: &str = ".tmp";
/// What the configuration file names the other one by.
const POINTER: &str = "dynamicConfigFile";

/// What a configuration file says in the beginning: keys that begin like this move into the file of the configuration.
const MOVED: [&str; 5] = ["server.", "group", "weight", POINTER, "peerType"];
/// So do these when the list of servers says where clients connect.
const CLIENT: &str = "clientPort";

/// The configuration that is proposed, if there is one.
pub(super) fn read_proposed(file: &Path) -> Result<Option<Membership>, ConfigError> {
    let path = beside(file, NEXT);
    let text = match std::fs::read(&path) {
        Ok(bytes) => properties::decode(&bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ConfigError::File { path, source }),
    };
    let malformed = |why: String| ConfigError::File { path: path.clone(), source: io::Error::other(why) };
    let entries = properties::parse(&text).map_err(|_| malformed("it has a malformed escape".to_owned()))?;
    let entries = entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()));
    Membership::from_settings(entries).map(Some).map_err(|why| malformed(why.to_string()))
}

fn beside(file: &Path, what: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(DYNAMIC);
    name.push(what);
    PathBuf::from(name)
}

/// The files of one server.
#[derive(Clone, Debug)]
pub struct DynamicFiles {
    /// The configuration file.
    pub file: PathBuf,
    /// `N` of its own line.
    pub me: crate::base::PeerId,
}

impl DynamicFiles {
    /// Keeps a copy of a configuration file that lists the servers itself: it will be rewritten.
    pub fn back_up(&self) -> io::Result<()> {
        let text = std::fs::read(&self.file)?;
        let is_pointed_away = entries(&text)?.iter().any(|entry| entry.key == POINTER);
        if is_pointed_away { Ok(()) } else { replace(&with_suffix(&self.file, BACKUP), &text) }
    }

    fn write_active(&self, membership: &Membership, keeps_proposed: bool) -> io::Result<()> {
        let version = format!("{:x}", membership.version);
        let dynamic = beside(&self.file, &version);
        let text = membership.to_text();
        replace(&dynamic, sorted(text.lines().filter(|line| !line.starts_with("version="))).as_bytes())?;
        let names_client = membership.members.get(&self.me).is_some_and(|member| member.client.is_some());
        let pointer = std::path::absolute(&dynamic)?;
        let edited = edited(&std::fs::read(&self.file)?, &pointer, names_client)?;
        replace(&self.file, edited.as_bytes())?;
        if keeps_proposed { Ok(()) } else { self.write_proposed(None) }
    }

    fn write_proposed(&self, text: Option<&str>) -> io::Result<()> {
        let path = beside(&self.file, NEXT);
        match text {
            Some(text) => replace(&path, sorted(text.lines()).as_bytes()),
            None => match std::fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
                _ => Ok(()),
            },
        }
    }
}

impl ConfigFiles for DynamicFiles {
    fn write(&self, write: &ConfigWrite) -> io::Result<()> {
        match write {
            ConfigWrite::Proposed(text) => self.write_proposed(text.as_deref()),
            ConfigWrite::Active { membership, keeps_proposed } => self.write_active(membership, *keeps_proposed),
        }
    }
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Lines in order, joined, without an end of line behind the last.
fn sorted<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut lines: Vec<String> = lines.map(|line| line.replace('\\', "\\\\")).collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// The configuration file without what has moved, with the name of the other file at its end. Comments are lost, as with ZooKeeper.
fn edited(before: &[u8], dynamic: &Path, names_client: bool) -> io::Result<String> {
    let stays = |key: &str| !MOVED.iter().any(|moved| key.starts_with(moved)) && !(names_client && key.starts_with(CLIENT));
    let mut text = String::new();
    for entry in entries(before)?.iter().filter(|entry| stays(&entry.key)) {
        text.push_str(&format!("{}={}\n", entry.key, entry.value.replace('\\', "\\\\")));
    }
    text.push_str(&format!("{POINTER}={}\n", dynamic.display()));
    Ok(text)
}

/// The last of each key, in the order of their first mention.
fn entries(bytes: &[u8]) -> io::Result<Vec<properties::Property>> {
    let all = properties::parse(&properties::decode(bytes)).map_err(|_| io::Error::other("a malformed escape"))?;
    let mut entries: Vec<properties::Property> = Vec::new();
    for property in all {
        match entries.iter_mut().find(|entry| entry.key == property.key) {
            Some(entry) => entry.value = property.value,
            None => entries.push(property),
        }
    }
    Ok(entries)
}

/// Puts a file in place, durably.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(io::Error::other("its path has no file name"));
    };
    dir::replace_file(parent, &format!("{name}{TEMPORARY}"), name, |out| out.write_all(bytes))?;
    Ok(())
}

#[cfg(test)]
#[path = "dynamic_tests.rs"]
mod tests;
