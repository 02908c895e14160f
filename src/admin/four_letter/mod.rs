//! The four-letter words of ZooKeeper 3.9: which are answered, and with what text.
//!
//! A word is pure formatting of an [`AdminView`]. What it changes (statistics, trace mask) is returned as an order to the caller.
//! Only words of the whitelist are answered (rule S8); all of them are read-only towards znodes.

mod clients;
mod dump;
mod environment;
mod monitor;
mod server;
mod watches;
mod whitelist;

#[cfg(test)]
mod tests;

pub use whitelist::Whitelist;

use super::report::{AdminView, ServerFacts};

/// A word, with the bytes a client sends for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Word {
    Conf,
    Cons,
    Crst,
    Dirs,
    Dump,
    Envi,
    Gtmk,
    Hash,
    Isro,
    Mntr,
    Ruok,
    Srst,
    Srvr,
    Stat,
    Stmk,
    Wchc,
    Wchp,
    Wchs,
    /// What telnet sends to interrupt: the connection is closed.
    TelnetClose,
}

/// Every word and its name.
const WORDS: [(Word, &[u8; 4]); 19] = [
    (Word::Conf, b"conf"),
    (Word::Cons, b"cons"),
    (Word::Crst, b"crst"),
    (Word::Dirs, b"dirs"),
    (Word::Dump, b"dump"),
    (Word::Envi, b"envi"),
    (Word::Gtmk, b"gtmk"),
    (Word::Hash, b"hash"),
    (Word::Isro, b"isro"),
    (Word::Mntr, b"mntr"),
    (Word::Ruok, b"ruok"),
    (Word::Srst, b"srst"),
    (Word::Srvr, b"srvr"),
    (Word::Stat, b"stat"),
    (Word::Stmk, b"stmk"),
    (Word::Wchc, b"wchc"),
    (Word::Wchp, b"wchp"),
    (Word::Wchs, b"wchs"),
    (Word::TelnetClose, &[0xff, 0xf4, 0xff, 0xfd]),
];

impl Word {
    /// The word these bytes are, exactly and case-sensitively.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 4]) -> Option<Word> {
        WORDS.iter().find(|(_, name)| **name == bytes).map(|(word, _)| *word)
    }

    /// Its name in whitelists and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        let bytes = WORDS.iter().find(|(word, _)| *word == self).map(|(_, name)| *name);
        bytes.and_then(|b| std::str::from_utf8(b).ok()).unwrap_or("telnet close")
    }

    /// Answered even while the server does not serve clients.
    const fn needs_no_server(self) -> bool {
        matches!(self, Word::Ruok | Word::Envi | Word::Gtmk | Word::Stmk | Word::Isro)
    }
}

/// What has to be gathered before a word can be answered, so that a cheap word stays cheap (rule B4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Needs {
    pub shards: bool,
    pub replica: bool,
    pub process: bool,
    /// A line per connection.
    pub connections: bool,
    /// Watches of the shards: they may be millions.
    pub watches: bool,
    /// Sessions, ephemerals and digests of the replica: they, too.
    pub lists: bool,
    /// Walks the data directories.
    pub directories: bool,
}

/// What this word's text is made of. Nothing for unknown and refused words.
#[must_use]
pub fn needs(word: [u8; 4], facts: &ServerFacts) -> Needs {
    let nothing = Needs::default();
    let Some(word) = Word::from_bytes(word).filter(|w| facts.whitelist.allows(*w)) else { return nothing };
    let mut needs = needs_of(word);
    // Only the replica knows whether a member serves clients.
    needs.replica |= facts.member.is_some() && (!word.needs_no_server() || word == Word::Isro);
    needs
}

fn needs_of(word: Word) -> Needs {
    let nothing = Needs::default();
    match word {
        Word::Conf | Word::Dirs => Needs { directories: true, ..nothing },
        Word::Cons => Needs { shards: true, connections: true, ..nothing },
        Word::Wchc | Word::Wchp | Word::Wchs => Needs { shards: true, watches: true, ..nothing },
        Word::Srvr => Needs { shards: true, replica: true, ..nothing },
        Word::Stat => Needs { shards: true, replica: true, connections: true, ..nothing },
        Word::Dump => Needs { shards: true, replica: true, connections: true, lists: true, ..nothing },
        Word::Mntr => Needs { shards: true, replica: true, process: true, ..nothing },
        Word::Envi => Needs { process: true, ..nothing },
        Word::Hash => Needs { replica: true, lists: true, ..nothing },
        Word::Crst | Word::Gtmk | Word::Isro | Word::Ruok | Word::Srst | Word::Stmk | Word::TelnetClose => nothing,
    }
}

/// Text to send before the connection is closed, and what else to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Nothing for words that only close.
    pub text: Vec<u8>,
    /// To be carried out by the caller on every shard.
    pub order: Option<Order>,
}

/// What a word changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `crst`: the statistics of every connection.
    ResetConnections,
    /// `srst`: the statistics of the server.
    ResetServer,
    /// `stmk`.
    SetTraceMask(i64),
}

/// Answers `word`; `arg` is what came in the same segment behind it (only `stmk` looks at it).
#[must_use]
pub fn answer(word: [u8; 4], arg: &[u8], view: &AdminView) -> Answer {
    let Some(word) = Word::from_bytes(word) else { return Answer::default() };
    if !view.facts.whitelist.allows(word) {
        return text(format!("{} is not executed because it is not in the whitelist.\n", word.name()));
    }
    if !view.serving && !word.needs_no_server() {
        let end = if word == Word::Hash { "" } else { "\n" };
        return text(format!("This ZooKeeper instance is not currently serving requests{end}"));
    }
    match word {
        Word::Conf => text(server::conf(view)),
        Word::Cons => text(clients::cons(view)),
        Word::Crst => order(Order::ResetConnections, "Connection stats reset.\n"),
        Word::Dirs => text(server::dirs(view)),
        Word::Dump => text(dump::dump(view)),
        Word::Envi => text(environment::envi(view)),
        Word::Gtmk => text(view.trace_mask.to_string()),
        Word::Hash => text(server::hash(view)),
        Word::Isro => text(match (view.serving, view.is_read_only()) {
            (false, _) => "null",
            (true, true) => "ro",
            (true, false) => "rw",
        }),
        Word::Mntr => text(monitor::mntr(view)),
        Word::Ruok => text("imok"),
        Word::Srst => order(Order::ResetServer, "Server stats reset.\n"),
        Word::Srvr => text(server::srvr(view)),
        Word::Stat => text(clients::stat(view)),
        Word::Stmk => set_trace_mask(arg),
        Word::Wchc => text(watches::wchc(view)),
        Word::Wchp => text(watches::wchp(view)),
        Word::Wchs => text(watches::wchs(view)),
        Word::TelnetClose => Answer::default(),
    }
}

fn text(text: impl Into<String>) -> Answer {
    Answer { text: text.into().into_bytes(), order: None }
}

fn order(order: Order, said: &str) -> Answer {
    Answer { order: Some(order), ..text(said) }
}

/// The mask must be in the same segment as the word; otherwise the connection is closed without an answer, as in ZooKeeper.
fn set_trace_mask(arg: &[u8]) -> Answer {
    match arg.first_chunk::<8>() {
        Some(bytes) => {
            let mask = i64::from_be_bytes(*bytes);
            order(Order::SetTraceMask(mask), &mask.to_string())
        }
        None => Answer::default(),
    }
}

/// Says that some shards are not in the text (rule B4).
fn incomplete(view: &AdminView) -> String {
    match view.shards_missing {
        0 => String::new(),
        n => format!("Incomplete: {n} of {} cores did not answer in time\n", n + view.shards.len()),
    }
}
