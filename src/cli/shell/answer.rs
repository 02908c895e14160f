//! What commands find out, as text in zkCli's form and as JSON.

use crate::admin::java_text;
use crate::base::WallTime;
use crate::client::{Acl, Stat};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// How data is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DataForm {
    Plain,
    Base64,
    Hex,
}

/// The result of a command.
#[derive(Debug)]
pub(super) enum Answer {
    Nothing,
    /// Words for people, and what they mean for programs.
    Text(String, Value),
    /// Likewise, but the words belong beside the results: zkCli writes them to standard error.
    Remark(String, Value),
    Children(Vec<String>, Option<Stat>),
    Paths(Vec<String>),
    Data(Option<Vec<u8>>, DataForm, Option<Stat>),
    Stat(Stat),
    Acl(Vec<Acl>, Option<Stat>),
    Count(u64),
    Ephemerals(Vec<String>),
    Identities(Vec<(String, String)>),
}

impl Answer {
    /// Lines, without the last line's end; `None` where there is nothing to say.
    pub(super) fn text(&self) -> Option<String> {
        let (mut text, stat) = match self {
            Answer::Nothing => return None,
            Answer::Text(text, _) | Answer::Remark(text, _) => (text.clone(), None),
            Answer::Children(names, stat) => (format!("[{}]", names.join(", ")), stat.as_ref()),
            Answer::Paths(paths) if paths.is_empty() => return None,
            Answer::Paths(paths) => (paths.join("\n"), None),
            Answer::Data(data, form, stat) => (data_text(data.as_deref(), *form), stat.as_ref()),
            Answer::Stat(stat) => return Some(stat_text(stat)),
            Answer::Acl(list, stat) => (list.iter().map(acl_text).collect::<Vec<_>>().join("\n"), stat.as_ref()),
            Answer::Count(count) => (count.to_string(), None),
            Answer::Ephemerals(paths) => (format!("[{}]", paths.join(", ")), None),
            Answer::Identities(list) => (identities_text(list), None),
        };
        if let Some(stat) = stat {
            let _ = write!(text, "\n{}", stat_text(stat));
        }
        Some(text)
    }

    /// One object.
    pub(super) fn json(&self) -> Value {
        let (mut value, stat) = match self {
            Answer::Nothing => (json!({}), None),
            Answer::Text(_, value) | Answer::Remark(_, value) => (value.clone(), None),
            Answer::Children(names, stat) => (json!({ "children": names }), stat.as_ref()),
            Answer::Paths(paths) => (json!({ "paths": paths }), None),
            Answer::Data(data, _, stat) => (data_json(data.as_deref()), stat.as_ref()),
            Answer::Stat(stat) => (json!({}), Some(stat)),
            Answer::Acl(list, stat) => (json!({ "acl": list.iter().map(acl_json).collect::<Vec<_>>() }), stat.as_ref()),
            Answer::Count(count) => (json!({ "count": count }), None),
            Answer::Ephemerals(paths) => (json!({ "ephemerals": paths }), None),
            Answer::Identities(list) => {
                let one = |(scheme, user): &(String, String)| json!({ "scheme": scheme, "user": user });
                (json!({ "identities": list.iter().map(one).collect::<Vec<_>>() }), None)
            }
        };
        if let Some(stat) = stat {
            value["stat"] = stat_json(stat);
        }
        value
    }
}

fn data_text(data: Option<&[u8]>, form: DataForm) -> String {
    // What was never given any data is shown by this word.
    let data = data.unwrap_or(b"null");
    match form {
        DataForm::Plain => String::from_utf8_lossy(data).into_owned(),
        DataForm::Base64 => STANDARD.encode(data),
        DataForm::Hex => hex_dump(data),
    }
}

/// Text as a string, anything else in base64 under another name.
pub(in crate::cli) fn data_json(data: Option<&[u8]>) -> Value {
    match data.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => json!({ "data": null }),
        Some((_, Ok(text))) => json!({ "data": text }),
        Some((bytes, Err(_))) => json!({ "data_base64": STANDARD.encode(bytes) }),
    }
}

/// Sixteen bytes a line, in hex and as characters, in the frame that Java's shell draws.
fn hex_dump(data: &[u8]) -> String {
    const RULE: &str = "+--------+-------------------------------------------------+----------------+";
    if data.is_empty() {
        return String::new();
    }
    let indent = " ".repeat(9);
    let numbers: String = (0..16).map(|n| format!(" {n:2x}")).collect();
    let mut text = format!("{indent}+{}+\n{indent}|{numbers} |\n{RULE}", "-".repeat(49));
    for (row, bytes) in data.chunks(16).enumerate() {
        let hex: String = bytes.iter().map(|b| format!(" {b:02x}")).collect();
        let shown: String = bytes.iter().map(|b| if (0x20..0x7f).contains(b) { char::from(*b) } else { '.' }).collect();
        let _ = write!(text, "\n|{:08x}|{hex:<48} |{shown:<16}|", row * 16);
    }
    text + "\n" + RULE
}

fn stat_text(stat: &Stat) -> String {
    [
        format!("cZxid = 0x{:x}", stat.czxid),
        format!("ctime = {}", java_text::date(WallTime(stat.ctime))),
        format!("mZxid = 0x{:x}", stat.mzxid),
        format!("mtime = {}", java_text::date(WallTime(stat.mtime))),
        format!("pZxid = 0x{:x}", stat.pzxid),
        format!("cversion = {}", stat.cversion),
        format!("dataVersion = {}", stat.version),
        format!("aclVersion = {}", stat.aversion),
        format!("ephemeralOwner = 0x{:x}", stat.ephemeral_owner),
        format!("dataLength = {}", stat.data_length),
        format!("numChildren = {}", stat.num_children),
    ]
    .join("\n")
}

pub(super) fn stat_json(stat: &Stat) -> Value {
    json!({
        "cZxid": format!("0x{:x}", stat.czxid), "ctime": stat.ctime, "mZxid": format!("0x{:x}", stat.mzxid), "mtime": stat.mtime,
        "pZxid": format!("0x{:x}", stat.pzxid), "cversion": stat.cversion, "dataVersion": stat.version, "aclVersion": stat.aversion,
        "ephemeralOwner": format!("0x{:x}", stat.ephemeral_owner), "dataLength": stat.data_length, "numChildren": stat.num_children,
    })
}

/// Letters of permissions, in the order in which zkCli shows them, and their bits.
pub(super) const PERMISSIONS: [(char, i32); 5] = [('c', 4), ('d', 8), ('r', 1), ('w', 2), ('a', 16)];

fn permissions(perms: i32) -> String {
    PERMISSIONS.iter().filter(|(_, bit)| perms & bit != 0).map(|(letter, _)| letter).collect()
}

fn acl_text(acl: &Acl) -> String {
    format!("'{},'{}\n: {}", acl.scheme, acl.id, permissions(acl.perms))
}

fn acl_json(acl: &Acl) -> Value {
    json!({ "scheme": acl.scheme, "id": acl.id, "perms": permissions(acl.perms) })
}

fn identities_text(list: &[(String, String)]) -> String {
    std::iter::once("Auth scheme: User".to_owned())
        .chain(list.iter().map(|(scheme, user)| format!("{scheme}: {user}")))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_shown_plain_in_base64_and_in_hex() {
        let show = |data: Option<&[u8]>, form| Answer::Data(data.map(<[u8]>::to_vec), form, None).text().expect("something");
        assert_eq!(show(Some(b"two words"), DataForm::Plain), "two words");
        assert_eq!(show(None, DataForm::Plain), "null");
        assert_eq!(show(Some(b"\0\x01"), DataForm::Base64), "AAE=");
        assert_eq!(
            show(Some(b"hello\n"), DataForm::Hex),
            "         +-------------------------------------------------+\n\
             \x20        |  0  1  2  3  4  5  6  7  8  9  a  b  c  d  e  f |\n\
             +--------+-------------------------------------------------+----------------+\n\
             |00000000| 68 65 6c 6c 6f 0a                               |hello.          |\n\
             +--------+-------------------------------------------------+----------------+"
        );
        assert_eq!(Answer::Data(Some(vec![0xff]), DataForm::Plain, None).json(), json!({ "data_base64": "/w==" }));
    }

    #[test]
    fn a_stat_follows_what_it_belongs_to() {
        let stat = Stat { czxid: 0x1a, version: 3, ..Stat::default() };
        let text = Answer::Children(vec!["a".into(), "b".into()], Some(stat)).text().expect("something");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines[1], lines[7], lines.len()), ("[a, b]", "cZxid = 0x1a", "dataVersion = 3", 12));
        assert_eq!(Answer::Children(vec![], None).text().as_deref(), Some("[]"));
        let acl = Acl { perms: 31, scheme: "world".into(), id: "anyone".into() };
        assert_eq!(Answer::Acl(vec![acl], None).text().as_deref(), Some("'world,'anyone\n: cdrwa"));
    }
}
