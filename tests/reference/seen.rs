//! Everything a client can see of a tree, to be compared.

use super::client::Client;
use super::request::get_acl;
use std::collections::BTreeMap;
use zoo::base::Stat;

#[derive(PartialEq, Debug)]
pub struct Seen {
    pub data: Option<Vec<u8>>,
    pub stat: Stat,
    pub acl: Vec<u8>,
    pub children: Vec<String>,
}

/// `top` and all nodes below it.
pub fn below(reader: &mut Client, top: &str) -> BTreeMap<String, Seen> {
    let mut nodes = BTreeMap::new();
    let mut todo = vec![top.to_owned()];
    while let Some(path) = todo.pop() {
        let (data, stat) = reader.data(&path);
        let acl = reader.ok(&get_acl(&path)).body;
        let children = reader.children(&path);
        let prefix = if path == "/" { "" } else { &path };
        todo.extend(children.iter().map(|c| format!("{prefix}/{c}")));
        nodes.insert(path, Seen { data, stat, acl, children });
    }
    nodes
}

pub fn assert_same(before: &BTreeMap<String, Seen>, after: &BTreeMap<String, Seen>, story: &str) {
    for (path, seen) in before {
        match after.get(path) {
            Some(now) => assert_eq!(seen, now, "{story}: {path} has changed"),
            None => panic!("{story}: {path} is gone"),
        }
    }
    let new: Vec<_> = after.keys().filter(|p| !before.contains_key(*p)).collect();
    assert!(new.is_empty(), "{story}: {new:?} are new");
}
