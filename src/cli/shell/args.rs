//! Lines into words, and words into options and arguments, by the rules of zkCli.

use super::failure::Failure;

/// The words of a line. One that begins with a quote ends at the next quote of its kind, and loses both.
pub(super) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let quoted = if matches!(first, '"' | '\'') { rest[1..].split_once(first) } else { None };
        let (word, behind) = match quoted {
            Some((word, behind)) => (word, behind),
            // A quote without its end is passed over, as zkCli does.
            None if matches!(first, '"' | '\'') => ("", &rest[1..]),
            None => rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        if quoted.is_some() || !word.is_empty() {
            words.push(word.to_owned());
        }
        rest = behind.trim_start();
    }
    words
}

/// An option of a command: its name without the dash, and whether a value follows.
pub(super) type OptionSpec = (&'static str, bool);

/// What a command was given.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Args {
    /// Without options and without the command's name.
    pub(super) plain: Vec<String>,
    options: Vec<(&'static str, Option<String>)>,
}

impl Args {
    /// `words` without the command's name. Options may stand anywhere and, if of one letter, together; what follows `--` is no option.
    pub(super) fn parse(specs: &[OptionSpec], words: &[String]) -> Result<Self, Failure> {
        let mut args = Args { plain: Vec::new(), options: Vec::new() };
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            if word == "--" {
                args.plain.extend(words.by_ref().cloned());
            } else if word.len() > 1 && word.starts_with('-') {
                args.take_option(specs, word)?;
                let is_value = |next: &&String| !is_option(specs, next);
                if let Some((name, value @ None)) = args.options.last_mut()
                    && takes_value(specs, name)
                {
                    *value = Some(words.next_if(is_value).ok_or_else(|| missing(name))?.clone());
                }
            } else {
                args.plain.push(word.clone());
            }
        }
        Ok(args)
    }

    fn take_option(&mut self, specs: &[OptionSpec], word: &str) -> Result<(), Failure> {
        let unknown = || Failure::new(format!("Unrecognized option: {word}"));
        let text = word.trim_start_matches('-');
        if let Some(spec) = find(specs, text) {
            self.options.push((spec.0, None));
            return Ok(());
        }
        if let Some((name, value)) = text.split_once('=') {
            let spec = find(specs, name).filter(|spec| spec.1).ok_or_else(unknown)?;
            self.options.push((spec.0, Some(value.to_owned())));
            return Ok(());
        }
        for (at, letter) in text.char_indices() {
            let behind = &text[at + letter.len_utf8()..];
            let spec = find(specs, &text[at..at + letter.len_utf8()]).ok_or_else(unknown)?;
            let value = (spec.1 && !behind.is_empty()).then(|| behind.to_owned());
            let ends = value.is_some();
            self.options.push((spec.0, value));
            if ends {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(n, _)| *n == name)
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(n, _)| *n == name).and_then(|(_, value)| value.as_deref())
    }

    /// The value of a number's option.
    pub(super) fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Failure> {
        let parse = |text: &str| text.parse().map_err(|_| Failure::new(format!("For input string: \"{text}\"")));
        self.value(name).map(parse).transpose()
    }

    /// The version in `-v`, or the one that fits all.
    pub(super) fn version(&self) -> Result<i32, Failure> {
        Ok(self.number("v")?.unwrap_or(-1))
    }
}

fn find<'s>(specs: &'s [OptionSpec], name: &str) -> Option<&'s OptionSpec> {
    specs.iter().find(|(n, _)| *n == name)
}

fn takes_value(specs: &[OptionSpec], name: &str) -> bool {
    find(specs, name).is_some_and(|spec| spec.1)
}

/// Would this word begin an option, where the value of another one is expected?
fn is_option(specs: &[OptionSpec], word: &str) -> bool {
    word.starts_with('-') && word.trim_start_matches('-').chars().next().is_some_and(|c| find(specs, &c.to_string()).is_some())
        || word.starts_with('-') && find(specs, word.trim_start_matches('-')).is_some()
}

fn missing(name: &str) -> Failure {
    Failure::new(format!("Missing argument for option: {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(specs: &[OptionSpec], line: &str) -> Result<Args, String> {
        Args::parse(specs, &words(line)).map_err(|f| f.message)
    }

    #[test]
    fn words_end_at_spaces_and_quoted_ones_at_their_quotes() {
        for (line, expected) in [
            ("  get   /a ", &["get", "/a"][..]),
            ("create /a \"two words\"", &["create", "/a", "two words"]),
            ("create /a 'it \"is\"' x", &["create", "/a", "it \"is\"", "x"]),
            ("create /a \"\"", &["create", "/a", ""]),
            ("set /a b\"c d", &["set", "/a", "b\"c", "d"]),
            ("set /a \"b", &["set", "/a", "b"]),
            ("", &[]),
        ] {
            assert_eq!(words(line), expected, "{line}");
        }
    }

    #[test]
    fn options_stand_anywhere_alone_or_together() {
        let specs = [("s", false), ("w", false), ("v", true), ("file", true)];
        let args = parse(&specs, "-sw /a -v -1 x").expect("valid");
        assert_eq!((args.plain.as_slice(), args.has("s"), args.has("w")), (&["/a".to_owned(), "x".to_owned()][..], true, true));
        assert_eq!(args.version().ok(), Some(-1));
        for line in ["-v7", "-v=7", "-v 7", "-sv7"] {
            assert_eq!(parse(&specs, line).expect("valid").value("v"), Some("7"), "{line}");
        }
        assert_eq!(parse(&specs, "-file f -- -s").expect("valid").plain, ["-s"]);
        assert_eq!(parse(&specs, "-x /a").expect_err("no such option"), "Unrecognized option: -x");
        assert_eq!(parse(&specs, "/a -v").expect_err("no value"), "Missing argument for option: v");
        assert_eq!(parse(&specs, "/a -v -s").expect_err("no value"), "Missing argument for option: v");
        assert!(parse(&specs, "-v x").expect("valid").version().is_err());
    }
}
