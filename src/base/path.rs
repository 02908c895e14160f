//! Znode path rules, in one place (ZooKeeper's PathUtils; UTF-16 ranges expressed as code points).

/// Below it lie the strategies by which connections are balanced, and above all it is the super user's.
pub const BALANCE: &str = "/zookeeper/balance";

/// Why a path is not legal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathError {
    /// Empty.
    Empty,
    /// Does not begin with "/".
    NotAbsolute,
    /// Ends with "/" and is not the root.
    TrailingSlash,
    /// An empty element ("//").
    EmptyElement,
    /// An element "." or "..".
    RelativeElement,
    /// NUL or another character that is not allowed.
    BadCharacter,
}

impl std::fmt::Display for PathError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            PathError::Empty => "it is empty",
            PathError::NotAbsolute => "it does not begin with /",
            PathError::TrailingSlash => "it ends with /",
            PathError::EmptyElement => "it has an empty name in it",
            PathError::RelativeElement => "it has a name . or .. in it",
            PathError::BadCharacter => "it has a character that is not allowed",
        })
    }
}

impl std::error::Error for PathError {}

/// Checks a path the way the server does for create (after suffixing), setData, setACL and check.
pub fn validate(path: &str) -> Result<(), PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    if !path.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    if path.len() == 1 {
        return Ok(());
    }
    if path.ends_with('/') {
        return Err(PathError::TrailingSlash);
    }
    for element in path[1..].split('/') {
        match element {
            "" => return Err(PathError::EmptyElement),
            "." | ".." => return Err(PathError::RelativeElement),
            _ => {}
        }
    }
    if path.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Ok(()); // the common case: printable ASCII
    }
    // Characters outside the BMP are surrogate pairs in UTF-16, which ZooKeeper refuses.
    let bad = |c: char| matches!(c as u32, 0x00..=0x1f | 0x7f..=0x9f | 0xd800..=0xf8ff | 0xfff0..);
    if path.chars().any(bad) { Err(PathError::BadCharacter) } else { Ok(()) }
}

/// The parent of an absolute path: "/" for a top-level node, `None` for the root itself or a string without "/".
#[must_use]
pub fn parent(path: &str) -> Option<&str> {
    match path.rfind('/') {
        None => None,
        Some(0) if path.len() == 1 => None,
        Some(0) => Some("/"),
        Some(i) => Some(&path[..i]),
    }
}

/// The last element.
#[must_use]
pub fn name(path: &str) -> &str {
    path.rfind('/').map_or(path, |i| &path[i + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_and_illegal_paths_as_in_zookeeper() {
        for ok in ["/", "/a", "/a/b c", "/\u{d7ff}", "/a/.b", "/a..", "/\u{ffef}"] {
            assert_eq!(validate(ok), Ok(()), "{ok:?}");
        }
        for bad in ["", "a", "/a/", "//", "/a//b", "/.", "/a/..", "/a\0", "/\u{1f}", "/\u{7f}", "/\u{e000}", "/\u{fff0}", "/\u{1f600}"] {
            assert!(validate(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parents_and_names() {
        assert_eq!(parent("/"), None);
        assert_eq!(parent("/a"), Some("/"));
        assert_eq!(parent("/a/b"), Some("/a"));
        assert_eq!(name("/a/b"), "b");
    }
}
