//! An independent model of what clients see: nodes, versions, sequence numbers, written for clarity alone, against random requests.

use super::random::SESSIONS;
use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Default, Debug, PartialEq)]
struct ModelNode {
    data: Vec<u8>,
    created: u64,
    modified: u64,
    children_changed: u64,
    ctime: i64,
    mtime: i64,
    sets: i32,
    births: i32,
    owner: i64,
}

#[derive(Clone, Default)]
struct Model {
    nodes: BTreeMap<String, ModelNode>,
}

#[derive(Clone, Debug)]
enum Ask {
    Create { path: &'static str, ephemeral: bool, sequential: bool, data: u8 },
    Delete { path: &'static str, version: i32 },
    Set { path: &'static str, version: i32, data: u8 },
    Check { path: &'static str, version: i32 },
    Multi(Vec<Ask>),
    Close,
}

const NAMES: [&str; 7] = ["/a", "/b", "/a/x", "/a/y", "/a/x/z", "/b/", "/b/x"];

fn ask() -> impl Strategy<Value = Ask> {
    let path = || prop::sample::select(NAMES.to_vec());
    let version = || prop_oneof![3 => Just(-1), 2 => 0..3i32];
    let single = prop_oneof![
        4 => (path(), any::<bool>(), any::<bool>(), 0..9u8)
            .prop_map(|(path, ephemeral, sequential, data)| Ask::Create { path, ephemeral, sequential, data }),
        2 => (path(), version()).prop_map(|(path, version)| Ask::Delete { path, version }),
        2 => (path(), version(), 0..9u8).prop_map(|(path, version, data)| Ask::Set { path, version, data }),
        1 => (path(), version()).prop_map(|(path, version)| Ask::Check { path, version }),
    ];
    prop_oneof![
        8 => single.clone().prop_filter("a check comes in a multi", |a| !matches!(a, Ask::Check { .. })),
        2 => prop::collection::vec(single, 1..4).prop_map(Ask::Multi),
        1 => Just(Ask::Close),
    ]
}

fn parent(path: &str) -> String {
    match path.rfind('/') {
        Some(0) | None => "/".to_owned(),
        Some(i) => path[..i].to_owned(),
    }
}

impl Model {
    fn children(&self, path: &str) -> usize {
        self.nodes.keys().filter(|p| *p != "/" && parent(p) == path).count()
    }
    fn stat(&self, path: &str) -> Stat {
        let node = &self.nodes[path];
        let children = self.children(path) as i32;
        Stat {
            czxid: node.created as i64,
            mzxid: node.modified as i64,
            pzxid: node.children_changed as i64,
            ctime: node.ctime,
            mtime: node.mtime,
            version: node.sets,
            // Every child that came and every child that went counts once.
            cversion: node.births + (node.births - children),
            aversion: 0,
            ephemeral_owner: node.owner,
            data_length: node.data.len() as i32,
            num_children: children,
        }
    }
    /// Carries a request out, or says why not. Returns the path of a create.
    fn ask(&mut self, zxid: u64, now: i64, ask: &Ask) -> Result<String, ErrorCode> {
        match ask {
            Ask::Create { path, ephemeral, sequential, data } => {
                let above = parent(path);
                let births = self.nodes.get(&above).ok_or(ErrorCode::NoNode)?.births;
                let path = if *sequential { format!("{path}{births:010}") } else { (*path).to_owned() };
                if path.ends_with('/') {
                    return Err(ErrorCode::BadArguments);
                }
                if self.nodes.contains_key(&path) {
                    return Err(ErrorCode::NodeExists);
                }
                if self.nodes[&above].owner != 0 {
                    return Err(ErrorCode::NoChildrenForEphemerals);
                }
                let owner = if *ephemeral { SESSIONS[0].0 } else { 0 };
                let node = ModelNode {
                    data: vec![*data; usize::from(*data)],
                    created: zxid,
                    modified: zxid,
                    children_changed: zxid,
                    ctime: now,
                    mtime: now,
                    owner,
                    ..ModelNode::default()
                };
                self.nodes.insert(path.clone(), node);
                let above = self.nodes.get_mut(&above).ok_or(ErrorCode::NoNode)?;
                above.births += 1;
                above.children_changed = zxid;
                Ok(path)
            }
            Ask::Delete { path, version } => {
                self.nodes.get(&parent(path)).ok_or(ErrorCode::NoNode)?;
                let node = self.nodes.get(*path).ok_or(ErrorCode::NoNode)?;
                if *version != -1 && *version != node.sets {
                    return Err(ErrorCode::BadVersion);
                }
                if self.children(path) > 0 {
                    return Err(ErrorCode::NotEmpty);
                }
                self.remove(zxid, path);
                Ok(String::new())
            }
            Ask::Set { path, version, data } => {
                if path.ends_with('/') {
                    return Err(ErrorCode::BadArguments);
                }
                let node = self.nodes.get_mut(*path).ok_or(ErrorCode::NoNode)?;
                if *version != -1 && *version != node.sets {
                    return Err(ErrorCode::BadVersion);
                }
                node.data = vec![*data; usize::from(*data)];
                node.sets += 1;
                node.modified = zxid;
                node.mtime = now;
                Ok(String::new())
            }
            Ask::Check { path, version } => {
                if path.ends_with('/') {
                    return Err(ErrorCode::BadArguments);
                }
                let node = self.nodes.get(*path).ok_or(ErrorCode::NoNode)?;
                if *version == -1 || *version == node.sets { Ok(String::new()) } else { Err(ErrorCode::BadVersion) }
            }
            Ask::Multi(parts) => {
                let before = self.clone();
                for part in parts {
                    if let Err(err) = self.ask(zxid, now, part) {
                        *self = before;
                        return Err(err);
                    }
                }
                Ok(String::new())
            }
            Ask::Close => {
                let gone: Vec<String> = self.nodes.iter().filter(|(_, n)| n.owner != 0).map(|(p, _)| p.clone()).collect();
                gone.iter().for_each(|path| self.remove(zxid, path));
                Ok(String::new())
            }
        }
    }
    fn remove(&mut self, zxid: u64, path: &str) {
        self.nodes.remove(path);
        if let Some(above) = self.nodes.get_mut(&parent(path)) {
            above.children_changed = zxid;
        }
    }
}

fn request<'a>(ask: &'a Ask, data: &'a [Vec<u8>]) -> Request<'a> {
    match ask {
        Ask::Create { path, ephemeral, sequential, data: d } => {
            let flags = i32::from(*ephemeral) + 2 * i32::from(*sequential);
            create_with(OpCode::Create, path, Some(&data[usize::from(*d)]), AclVec::OPEN, flags, None)
        }
        Ask::Delete { path, version } => delete(path, *version),
        Ask::Set { path, version, data: d } => set(path, &data[usize::from(*d)], *version),
        Ask::Check { path, version } => check(path, *version),
        Ask::Multi(parts) => Request::Multi(parts.iter().map(|p| request(p, data)).collect()),
        Ask::Close => Request::CloseSession,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::props::cases(128), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn answers_and_stats_are_those_of_the_model(asks in prop::collection::vec(ask(), 0..60), commit: bool) {
        let mut rig = Rig::new();
        rig.commit = commit;
        let mut model = Model::default();
        for path in ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
            model.nodes.insert(path.to_owned(), ModelNode::default());
        }
        let data: Vec<Vec<u8>> = (0..9u8).map(|d| vec![d; usize::from(d)]).collect();
        for ask in &asks {
            if matches!(ask, Ask::Close) {
                let effects = rig.close_session(SESSIONS[0]);
                model.ask(rig.zxid, rig.now, ask).expect("always possible");
                prop_assert!(effects.events.iter().all(|e| e.kind == EventType::NodeDeleted));
                rig.open_session(SESSIONS[0]);
            } else {
                let out = rig.request(&request(ask, &data));
                let want = model.ask(rig.zxid, rig.now, ask);
                let got = match ask {
                    // The first code that is not 0 in the list of errors; a success begins with a part's own type.
                    Ask::Multi(_) if out.reply[..4] == [0xff; 4] => first_error(&out.reply),
                    _ => out.err.code(),
                };
                prop_assert_eq!(got, want.as_ref().map_or_else(|e| e.code(), |_| 0), "{:?}", ask);
                if let (Ask::Create { .. }, Ok(path)) = (ask, &want) {
                    prop_assert_eq!(Reader::new(&out.reply).string(), Ok(path.as_str()));
                }
            }
            let shown: BTreeMap<String, Stat> = dump(&rig.tree).nodes.into_iter().map(|n| (n.path, n.stat)).collect();
            let mut wanted: BTreeMap<String, Stat> = model.nodes.keys().map(|p| (p.clone(), model.stat(p))).collect();
            wanted.get_mut("/zookeeper/config").expect("there").aversion = -1;
            prop_assert_eq!(shown, wanted);
        }
    }
}

fn first_error(reply: &[u8]) -> i32 {
    let mut r = Reader::new(reply);
    loop {
        let (_kind, done, err) = (r.i32().expect("kind"), r.bool().expect("done"), r.i32().expect("err"));
        if done || err != 0 {
            return if done { 0 } else { err };
        }
        r.i32().expect("the code again");
    }
}
