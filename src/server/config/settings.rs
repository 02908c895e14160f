//! Where settings come from: file, environment, command line; collected in that order, the last one wins.

use super::error::ConfigError;
use super::{keys, properties};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Environment variables whose `-D` options count, in order.
const FLAG_VARIABLES: [&str; 2] = ["JVMFLAGS", "SERVER_JVMFLAGS"];
/// A configuration file larger than this is a mistake: it is refused unread.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Where a setting was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file.
    File(Arc<Path>, usize),
    /// An environment variable.
    Environment(&'static str),
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Flag => f.write_str("command line"),
        }
    }
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Without `zookeeper.`.
    pub key: String,
    /// As it was given.
    pub value: String,
    /// Where.
    pub origin: Origin,
}

/// All settings in order.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    entries: Vec<Setting>,
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
}

impl Settings {
    /// Collects from the arguments behind `zoo server` (`[FILE] [--key value | --key=value | -Dname=value]…`), the file they
    /// name and the environment.
    pub fn collect(args: &[String], env: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let (file, flags) = parse_args(args)?;
        let mut settings = Settings::default();
        if let Some(path) = file {
            settings.add_file(&path)?;
            settings.file = Some(path);
        }
        for name in FLAG_VARIABLES {
            settings.add_variable(name, &env(name).unwrap_or_default());
        }
        settings.entries.extend(flags);
        Ok(settings)
    }

    /// The setting that counts for this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Setting> {
        self.entries.iter().rev().find(|s| s.key == key)
    }

    /// The settings that count, one per key, in the order of their first mention.
    pub fn effective(&self) -> impl Iterator<Item = &Setting> {
        let first = |i: usize| self.entries[..i].iter().all(|s| s.key != self.entries[i].key);
        (0..self.entries.len()).filter(move |i| first(*i)).filter_map(|i| self.get(&self.entries[i].key))
    }

    fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        self.entries.extend(read_file(path)?);
        Ok(())
    }

    fn add_variable(&mut self, name: &'static str, flags: &str) {
        for flag in flags.split_whitespace() {
            let Some((key, value)) = flag.strip_prefix("-D").map(split_pair) else { continue };
            // Options of the Java virtual machine and its other libraries travel in the same variables.
            let ours = key.starts_with("zookeeper.") || keys::kind(key).is_some_and(|k| !matches!(k, keys::Kind::NoEffect(_)));
            if ours {
                self.entries.push(setting(key, value.unwrap_or_default(), Origin::Environment(name)));
            }
        }
    }
}

/// The settings of one properties file.
pub fn read_file(path: &Path) -> Result<Vec<Setting>, ConfigError> {
    let unreadable = |source| ConfigError::File { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(unreadable)?.len();
    if length > FILE_BYTES_MAX {
        return Err(unreadable(std::io::Error::other("larger than any configuration file")));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let shared: Arc<Path> = path.into();
    let entries = properties::parse(&properties::decode(&bytes))
        .map_err(|bad| ConfigError::Escape { origin: Origin::File(shared.clone(), bad.line) })?;
    Ok(entries.into_iter().map(|p| setting(&p.key, &p.value, Origin::File(shared.clone(), p.line))).collect())
}

fn setting(key: &str, value: &str, origin: Origin) -> Setting {
    Setting { key: keys::canonical(key.trim()).to_owned(), value: value.trim().to_owned(), origin }
}

fn split_pair(pair: &str) -> (&str, Option<&str>) {
    pair.split_once('=').map_or((pair, None), |(key, value)| (key, Some(value)))
}

fn parse_args(args: &[String]) -> Result<(Option<PathBuf>, Vec<Setting>), ConfigError> {
    let (mut file, mut flags) = (None, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (pair, java_style) = match (arg.strip_prefix("--"), arg.strip_prefix("-D")) {
            (Some(pair), _) => (pair, false),
            (None, Some(pair)) => (pair, true),
            (None, None) if arg.starts_with('-') => return Err(ConfigError::Usage(format!("unknown option {arg:?}"))),
            (None, None) if file.is_none() => {
                file = Some(PathBuf::from(arg));
                continue;
            }
            (None, None) => return Err(ConfigError::Usage(format!("one configuration file at most, but {arg:?} is a second"))),
        };
        let (key, value) = split_pair(pair);
        let value = match value {
            Some(value) => value,
            None if java_style => "",
            None => args.next().ok_or_else(|| ConfigError::Usage(format!("{arg:?} needs a value")))?,
        };
        if key.is_empty() {
            return Err(ConfigError::Usage(format!("{arg:?} names no key")));
        }
        flags.push(setting(key, value, Origin::Flag));
    }
    Ok((file, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(args: &[&str], env: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        Settings::collect(&args, &|name| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }
    fn value<'a>(settings: &'a Settings, key: &str) -> Option<&'a str> {
        settings.get(key).map(|s| s.value.as_str())
    }

    #[test]
    fn flags_beat_the_environment_which_beats_the_file() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("zoo.cfg");
        std::fs::write(&path, "tickTime=1\ntickTime=2\nzookeeper.snapCount=3\ninitLimit=4\n").expect("write");
        let file = path.to_str().expect("UTF-8");
        let env = [("JVMFLAGS", "-Xmx1g -Dzookeeper.tickTime=5 -Dcom.sun.x=1"), ("SERVER_JVMFLAGS", "-Dzookeeper.snapCount=6")];

        let settings = collect(&[file], &[]).expect("valid");
        assert_eq!(value(&settings, "tickTime"), Some("2"));
        assert_eq!(settings.get("snapCount").map(|s| s.origin.to_string()), Some(format!("{file}:3")));

        let settings = collect(&["--tickTime", "7", file, "-Dzookeeper.extra", "--dataDir=/d=e"], &env).expect("valid");
        assert_eq!(value(&settings, "tickTime"), Some("7"));
        assert_eq!(settings.get("snapCount").map(|s| s.origin.to_string()), Some("environment variable SERVER_JVMFLAGS".into()));
        assert_eq!(value(&settings, "dataDir"), Some("/d=e"));
        assert_eq!(value(&settings, "extra"), Some(""));
        assert_eq!(value(&settings, "com.sun.x"), None);
        let effective: Vec<_> = settings.effective().map(|s| s.key.as_str()).collect();
        assert_eq!(effective, ["tickTime", "snapCount", "initLimit", "extra", "dataDir"]);
    }

    #[test]
    fn arguments_that_mean_nothing_are_refused() {
        for args in [&["--tickTime"][..], &["a.cfg", "b.cfg"], &["-x"], &["--=1"], &["-D=1"]] {
            assert!(matches!(collect(args, &[]), Err(ConfigError::Usage(_)) | Err(ConfigError::File { .. })), "{args:?}");
        }
        assert!(matches!(collect(&["/no/such/file.cfg"], &[]), Err(ConfigError::File { .. })));
    }
}
