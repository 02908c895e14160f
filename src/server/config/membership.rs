//! `server.N` lines: enough of them to tell a standalone server from a member of an ensemble, and to find its client address.

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// N.
    pub id: i64,
    /// Takes part in votes.
    pub voter: bool,
    /// Behind the semicolon: client host, empty for all addresses, and client port.
    pub client: Option<(String, u16)>,
}

/// What a `server.N` value must look like.
pub const EXPECTED: &str = "host:quorumPort:electionPort[:participant|observer][;[clientHost:]clientPort]";

impl Member {
    /// Parses the N of the key and the value; `None` when either is malformed.
    #[must_use]
    pub fn parse(id: &str, value: &str) -> Option<Member> {
        let id: i64 = id.parse().ok().filter(|id| *id >= 0)?;
        let (server, client) = match value.split_once(';') {
            Some((server, client)) => (server.trim(), Some(parse_client(client.trim())?)),
            None => (value, None),
        };
        let mut voter = true;
        // Several addresses of one server are joined by '|'; a role may follow the last one.
        for address in server.split('|') {
            let mut parts = split_outside_brackets(address.trim()).into_iter();
            let host = parts.next().filter(|h| !h.is_empty())?;
            let (quorum, election): (u16, u16) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
            if quorum == election || host.contains(char::is_whitespace) {
                return None;
            }
            match parts.next().map(str::to_ascii_lowercase).as_deref() {
                None | Some("participant") => {}
                Some("observer") => voter = false,
                Some(_) => return None,
            }
            if parts.next().is_some() {
                return None;
            }
        }
        Some(Member { id, voter, client })
    }
}

fn parse_client(text: &str) -> Option<(String, u16)> {
    match split_outside_brackets(text)[..] {
        [port] => Some((String::new(), port.parse().ok()?)),
        [host, port] => Some((host.trim_start_matches('[').trim_end_matches(']').to_owned(), port.parse().ok()?)),
        _ => None,
    }
}

/// Splits at colons that are not part of an IPv6 address in brackets.
fn split_outside_brackets(text: &str) -> Vec<&str> {
    let mut inside = false;
    text.split(|c| {
        inside = (inside || c == '[') && c != ']';
        c == ':' && !inside
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_lines_of_every_form() {
        let client = |host: &str, port| Some((host.to_owned(), port));
        for (value, voter, want) in [
            ("h:2888:3888", true, None),
            ("h:2888:3888:participant", true, None),
            ("h:2888:3888:OBSERVER;2181", false, client("", 2181)),
            ("h:2888:3888;10.0.0.1:2181", true, client("10.0.0.1", 2181)),
            ("[::1]:2888:3888:participant;[2001:db8::2]:2181", true, client("2001:db8::2", 2181)),
            ("a:1:2|b:3:4:observer", false, None),
        ] {
            assert_eq!(Member::parse("3", value), Some(Member { id: 3, voter, client: want }), "{value}");
        }
    }

    #[test]
    fn malformed_server_lines_are_refused() {
        for value in
            ["", "h", "h:1", "h:1:1", "h:1:x", ":1:2", "h:1:2:boss", "h:1:2:observer:3", "h:1:2;", "h:1:2;a:b:c", "h:1:99999", "a b:1:2"]
        {
            assert_eq!(Member::parse("1", value), None, "{value}");
        }
        assert_eq!(Member::parse("x", "h:1:2"), None);
        assert_eq!(Member::parse("-1", "h:1:2"), None);
    }
}
