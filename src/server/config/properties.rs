//! Java's properties syntax, as ZooKeeper's configuration files use it.
//!
//! `key=value`, `key:value` or `key value`; `#` and `!` begin a comment line; a backslash escapes the next character or, at the end of
//! a line, continues it. Any input is accepted, as by Java; the one thing that can be wrong is a `\u` escape.

/// One entry, with the number of the line it begins on. Key and value are trimmed, as ZooKeeper trims them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// In front of the separator.
    pub key: String,
    /// Behind it.
    pub value: String,
    /// From 1.
    pub line: usize,
}

/// A `\u` escape that is not followed by four hexadecimal digits, or that names half of a surrogate pair alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEscape {
    /// From 1.
    pub line: usize,
}

/// All entries in file order; the caller lets later duplicates win.
pub fn parse(text: &str) -> Result<Vec<Property>, BadEscape> {
    let mut properties = Vec::new();
    for (line, logical) in LogicalLines::new(text) {
        let (key, value) = split(&logical);
        let unescape = |raw: &str| unescape(raw).ok_or(BadEscape { line });
        let (key, value) = (unescape(key)?, unescape(value)?);
        properties.push(Property { key: key.trim().to_owned(), value: value.trim().to_owned(), line });
    }
    Ok(properties)
}

/// Java reads ISO 8859-1; files in UTF-8 are more common today, so that is tried first.
#[must_use]
pub fn decode(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

/// Lines that hold an entry, continuation lines joined, escapes still in place.
struct LogicalLines<'a> {
    lines: std::iter::Enumerate<std::vec::IntoIter<&'a str>>,
}

impl<'a> LogicalLines<'a> {
    fn new(text: &'a str) -> Self {
        // \n, \r and \r\n all end a line.
        let lines: Vec<&str> = text.split('\n').flat_map(|l| l.strip_suffix('\r').unwrap_or(l).split('\r')).collect();
        LogicalLines { lines: lines.into_iter().enumerate() }
    }
}

impl Iterator for LogicalLines<'_> {
    type Item = (usize, String);

    fn next(&mut self) -> Option<Self::Item> {
        let (first, begin) = self.lines.by_ref().find_map(|(n, line)| {
            let line = line.trim_start_matches(is_blank);
            (!line.is_empty() && !line.starts_with(['#', '!'])).then_some((n + 1, line))
        })?;
        let mut logical = begin.to_owned();
        while continues(&logical) {
            logical.pop();
            let Some((_, more)) = self.lines.next() else { break };
            logical.push_str(more.trim_start_matches(is_blank));
        }
        Some((first, logical))
    }
}

/// True when the line ends with an odd number of backslashes.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1
}

/// Key and value of a logical line, both still escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let ends_key = |c: char| {
        let ends = !escaped && (is_blank(c) || c == '=' || c == ':');
        escaped = c == '\\' && !escaped;
        ends
    };
    let Some(end) = line.find(ends_key) else { return (line, "") };
    let rest = line[end..].trim_start_matches(is_blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..end], rest.trim_start_matches(is_blank))
}

fn unescape(raw: &str) -> Option<String> {
    let mut out = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\x0c'),
            Some('u') => out.push(unicode_escape(&mut chars)?),
            Some(other) => out.push(other),
            None => {}
        }
    }
    Some(out)
}

/// The character behind a `\u`; two of them when the first is a high surrogate.
fn unicode_escape(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let unit = |chars: &mut std::str::Chars<'_>| (0..4).try_fold(0u32, |n, _| Some(n << 4 | chars.next()?.to_digit(16)?));
    let first = unit(chars)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first);
    }
    if chars.next() != Some('\\') || chars.next() != Some('u') {
        return None;
    }
    let second = unit(chars)?;
    char::decode_utf16([first as u16, second as u16]).next()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).expect("valid").into_iter().map(|p| (p.key, p.value)).collect()
    }
    fn pair(text: &str) -> (String, String) {
        let all = pairs(text);
        assert_eq!(all.len(), 1, "{text:?}");
        all.into_iter().next().expect("one")
    }

    #[test]
    fn separators_are_equals_colon_and_blanks() {
        for text in ["k=v", "k:v", "k v", "k\tv", "  k = v  ", "k : v", "k\\\n =v"] {
            assert_eq!(pair(text), ("k".into(), "v".into()), "{text:?}");
        }
        assert_eq!(pair("server.1=a:2888:3888"), ("server.1".into(), "a:2888:3888".into()));
        assert_eq!(pair("k==v"), ("k".into(), "=v".into()));
        assert_eq!(pair("k"), ("k".into(), String::new()));
        assert_eq!(pair("k="), ("k".into(), String::new()));
    }

    #[test]
    fn comments_and_blank_lines_are_skipped_and_lines_counted() {
        let text = "# one=1\n! two=2\n\n   \n  # three\nkey=a#b!c\r\nother = x\rlast=y";
        assert_eq!(pairs(text), [("key".into(), "a#b!c".into()), ("other".into(), "x".into()), ("last".into(), "y".into())]);
        assert_eq!(parse(text).expect("valid")[0].line, 6);
    }

    #[test]
    fn a_backslash_continues_a_line_unless_it_is_escaped_itself() {
        assert_eq!(pair("k=a,\\\n   b,\\\n\tc"), ("k".into(), "a,b,c".into()));
        assert_eq!(pairs("k=a\\\\\nl=b"), [("k".into(), "a\\".into()), ("l".into(), "b".into())]);
        assert_eq!(pair("k=a\\"), ("k".into(), "a".into()));
        assert_eq!(pairs("# no \\\nk=v"), [("k".into(), "v".into())]);
    }

    #[test]
    fn escapes_are_javas() {
        assert_eq!(pair(r"a\=b\:c\ d=e"), ("a=b:c d".into(), "e".into()));
        assert_eq!(pair(r"k=C:\\data\tx\q"), ("k".into(), "C:\\data\txq".into()));
        assert_eq!(pair(r"k=\u00e9\ud83d\ude00"), ("k".into(), "é😀".into()));
        for bad in [r"k=\u00g0", r"k=\u12", r"k=\ud83dx", r"k=\ud83d\u0041", r"k=\udc00"] {
            assert_eq!(parse(&format!("x=1\n{bad}")), Err(BadEscape { line: 2 }), "{bad}");
        }
    }

    #[test]
    fn files_may_be_utf8_or_latin1() {
        assert_eq!(decode("d=/é".as_bytes()), "d=/é");
        assert_eq!(decode(b"d=/\xe9"), "d=/é");
    }
}
