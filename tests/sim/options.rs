//! What the program is asked to do.

/// How to call it.
pub const USAGE: &str = "\
cargo test --test sim [-- OPTION…] [NAME…]
  NAME…         scripts whose name contains one of these; without any, all scripts, and some seeds
  --list        names the scripts
  --exact       a name has to be the whole name
  --seeds N     at least so many seeds …
  --hours H     … and at least so many simulated cluster-hours; no scripts
  --from S      the first of the seeds
  --seed S      this seed alone, with its trace
  --members     whole servers as well, which takes several times as long
  --planted     every planted bug has to be found (needs the feature planted-bugs)
  --jobs N      threads; as many as there are cores otherwise";

/// Without anything else asked for, so many seeds are tried beside the scripts.
const SEEDS_IN_PASSING: u64 = 24;

/// The command line.
#[derive(Debug, Default, PartialEq)]
pub struct Options {
    pub names: Vec<String>,
    pub is_exact: bool,
    pub lists: bool,
    pub seeds: u64,
    pub hours: f64,
    pub from: u64,
    pub replay: Option<u64>,
    pub plants: bool,
    /// Whether whole servers are a part of every seed.
    pub members: bool,
    pub jobs: usize,
    /// Whether scripts run.
    pub scripts: bool,
}

impl Options {
    pub fn parse(args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut o = Options { from: 1, ..Options::default() };
        let (mut seeds, mut hours) = (None, None);
        let mut args = args.flat_map(|arg| match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => vec![name.to_owned(), value.to_owned()],
            _ => vec![arg],
        });
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} wants a value"));
            match arg.as_str() {
                "--seeds" => seeds = Some(number(&arg, &value()?)?),
                "--hours" => hours = Some(number(&arg, &value()?)?),
                "--from" => o.from = number(&arg, &value()?)?,
                "--seed" => o.replay = Some(number(&arg, &value()?)?),
                "--jobs" => o.jobs = number(&arg, &value()?)?,
                "--planted" => o.plants = true,
                "--members" => o.members = true,
                "--list" => o.lists = true,
                "--exact" => o.is_exact = true,
                // Of the usual harness, and without meaning here.
                "--nocapture" | "--no-capture" | "--show-output" | "--quiet" | "-q" | "--include-ignored" => {}
                "--test-threads" | "--color" | "--format" | "-Z" => drop(value()?),
                _ if arg.starts_with('-') => return Err(format!("what is {arg}?")),
                _ => o.names.push(arg),
            }
        }
        let is_plain = seeds.is_none() && hours.is_none() && o.replay.is_none() && !o.plants;
        o.scripts = is_plain || !o.names.is_empty();
        o.seeds = seeds.unwrap_or(if is_plain && o.names.is_empty() { SEEDS_IN_PASSING } else { 0 });
        o.hours = hours.unwrap_or(0.0);
        if o.jobs == 0 {
            o.jobs = std::thread::available_parallelism().map_or(1, Into::into);
        }
        Ok(o)
    }
    /// Whether a script of this name is asked for.
    pub fn selects(&self, name: &str) -> bool {
        let fits = |wanted: &String| if self.is_exact { name == wanted } else { name.contains(wanted.as_str()) };
        self.names.is_empty() || self.names.iter().any(fits)
    }
}

fn number<T: std::str::FromStr>(option: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{option} wants a number, not '{text}'"))
}

fn parsed(line: &str) -> Options {
    Options::parse(line.split_whitespace().map(str::to_owned)).expect("valid")
}

pub fn a_name_picks_scripts_and_a_number_of_seeds_picks_seeds() {
    let plain = parsed("--jobs 3");
    assert!(plain.scripts && plain.seeds == SEEDS_IN_PASSING && plain.jobs == 3);
    let named = parsed("epoch l21 --nocapture");
    assert!(named.scripts && named.seeds == 0 && named.selects("a_wiped_one_l21") && !named.selects("other"));
    assert!(!parsed("--exact l21").selects("a_wiped_one_l21"));
    let searching = parsed("--seeds=7 --hours 0.5");
    assert!(!searching.scripts && searching.seeds == 7 && searching.hours == 0.5);
    assert!(Options::parse(["--what".to_owned()].into_iter()).is_err());
}
