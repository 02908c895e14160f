//! Which words are answered (`4lw.commands.whitelist`).

use super::{WORDS, Word};

/// The words that are answered. `srvr` always is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Whitelist(Vec<Word>);

impl Default for Whitelist {
    /// Only `srvr`, as in ZooKeeper.
    fn default() -> Self {
        Whitelist(vec![Word::Srvr])
    }
}

impl Whitelist {
    /// Reads a comma-separated list, `*` for all words. Also returns the names in it that are no words, for a warning.
    #[must_use]
    pub fn parse(list: &str) -> (Self, Vec<String>) {
        let (mut words, mut unknown) = (Whitelist::default(), Vec::new());
        for name in list.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            if name == "*" {
                WORDS.iter().for_each(|(word, _)| words.add(*word));
            } else if let Some((word, _)) = WORDS.iter().find(|(word, _)| word.name() == name) {
                words.add(*word);
            } else {
                unknown.push(name.to_owned());
            }
        }
        (words, unknown)
    }

    /// Adds a word.
    pub fn add(&mut self, word: Word) {
        if !self.allows(word) {
            self.0.push(word);
        }
    }

    /// True when the word is answered.
    #[must_use]
    pub fn allows(&self, word: Word) -> bool {
        self.0.contains(&word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srvr_is_always_answered_and_nothing_else_by_default() {
        let allowed = |list: &str| {
            let (whitelist, _) = Whitelist::parse(list);
            WORDS.iter().filter(|(word, _)| whitelist.allows(*word)).map(|(word, _)| word.name()).collect::<Vec<_>>()
        };
        assert_eq!(allowed(""), ["srvr"]);
        assert_eq!(allowed(" ruok , mntr,"), ["mntr", "ruok", "srvr"]);
        assert_eq!(allowed("*").len(), WORDS.len());
    }

    #[test]
    fn names_that_are_no_words_are_reported() {
        let (whitelist, unknown) = Whitelist::parse("ruok, RUOK, mntrs");
        assert!(whitelist.allows(Word::Ruok));
        assert_eq!(unknown, ["RUOK", "mntrs"]);
    }
}
