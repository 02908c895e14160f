//! Commands on nodes: ls, get, set, create, delete, deleteall, stat, sync, getEphemerals, getAllChildrenNumber.

use super::answer::{Answer, DataForm, stat_json};
use super::args::Args;
use super::failure::{Failure, keeper_message};
use super::watches::KeptWatch;
use super::{Shell, access};
use crate::admin::version::zookeeper_build;
use crate::client::{Acl, CreateMode, Error, ErrorCode, Nullable, Pending, Pipelined, WatchKind, ZooClient};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

/// The longest life in milliseconds that a node can be given.
const TTL_MAX: u64 = (1 << 40) - 1;
/// Operations in one transaction of `deleteall`, unless `-b` says otherwise.
const DELETE_BATCH: usize = 1_000;
/// Transactions of `deleteall` that are on their way at once.
const DELETE_BATCHES: usize = 10;

/// The first argument, which is a path.
pub(super) fn path_of(args: &Args) -> &str {
    args.plain.first().map_or("", String::as_str)
}

pub(super) fn wait<T>(path: &str, pending: Pending<T>) -> Result<T, Failure> {
    pending.wait().map_err(|why| Failure::at(path, &why))
}

pub(super) fn list(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let (path, watched) = (path_of(args), args.has("w"));
    if args.has("R") {
        return list_all(shell, path, watched);
    }
    let (mut names, stat) = children(shell, path, watched)?;
    names.sort_unstable();
    Ok(Answer::Children(names, args.has("s").then_some(stat)))
}

fn children(shell: &mut Shell, path: &str, watched: bool) -> Result<(Vec<String>, crate::client::Stat), Failure> {
    let calls = shell.client()?.pipelined();
    if !watched {
        return wait(path, calls.children(path));
    }
    let (found, watch) = calls.children_and_watch(path);
    let found = wait(path, found)?;
    shell.watches.push(KeptWatch::new(path, WatchKind::Child, watch));
    Ok(found)
}

fn list_all(shell: &mut Shell, path: &str, watched: bool) -> Result<Answer, Failure> {
    data(shell, path, watched)?;
    let screen = shell.screen.clone();
    let mut paths = Vec::new();
    let mut found = |path: &str| {
        if !screen.path(path) {
            paths.push(path.to_owned());
        }
    };
    found(path);
    walk(shell, path, watched, &mut found)?;
    Ok(Answer::Paths(paths))
}

/// Names all below a node, the children of one together, each before what is below it. Nodes that go meanwhile are passed over.
pub(super) fn walk(shell: &mut Shell, root: &str, watched: bool, found: &mut dyn FnMut(&str)) -> Result<(), Failure> {
    let mut ahead = vec![root.to_owned()];
    while let Some(path) = ahead.pop() {
        let names = match children(shell, &path, watched) {
            Err(why) if why == Failure::at(&path, &Error::Refused(ErrorCode::NoNode)) => continue,
            other => other?.0,
        };
        let mut below: Vec<String> = names.iter().map(|name| child(&path, name)).collect();
        below.sort_unstable();
        below.iter().for_each(|path| found(path));
        ahead.extend(below.into_iter().rev());
    }
    Ok(())
}

pub(super) fn child(path: &str, name: &str) -> String {
    if path == "/" { format!("/{name}") } else { format!("{path}/{name}") }
}

fn data(shell: &mut Shell, path: &str, watched: bool) -> Result<Nullable, Failure> {
    let calls = shell.client()?.pipelined();
    if !watched {
        return wait(path, calls.get_nullable(path));
    }
    let (found, watch) = calls.get_nullable_and_watch(path);
    let found = wait(path, found)?;
    shell.watches.push(KeptWatch::new(path, WatchKind::Data, watch));
    Ok(found)
}

pub(super) fn get(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let (data, stat) = data(shell, path_of(args), args.has("w"))?;
    let form = match (args.has("x"), args.has("b")) {
        (true, _) => DataForm::Hex,
        (false, true) => DataForm::Base64,
        (false, false) => DataForm::Plain,
    };
    Ok(Answer::Data(data, form, args.has("s").then_some(stat)))
}

pub(super) fn set(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let (path, text) = (path_of(args), &args.plain[1]);
    let decoded = if args.has("b") {
        Some(STANDARD.decode(text).map_err(|why| Failure::new(format!("the data is not base64: {why}")))?)
    } else {
        None
    };
    let data = decoded.as_deref().unwrap_or(text.as_bytes());
    let stat = wait(path, shell.client()?.pipelined().set_version(path, data, args.version()?))?;
    Ok(if args.has("s") { Answer::Stat(stat) } else { Answer::Nothing })
}

pub(super) fn create(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let mode = mode(args)?;
    let path = path_of(args);
    let acl = args.plain.get(2).map_or_else(|| Ok(Acl::open()), |text| access::parse_acl(text, &shell.screen))?;
    let calls = shell.client()?.pipelined();
    let created = match args.plain.get(1) {
        Some(data) => calls.create_with(path, data.as_bytes(), &acl, mode),
        None => calls.create_null(path, &acl, mode),
    };
    match created.wait() {
        Ok((path, stat)) => Ok(Answer::Remark(format!("Created {path}"), json!({ "created": path, "stat": stat_json(&stat) }))),
        Err(why) => {
            match why.code() {
                Some(ErrorCode::EphemeralOnLocalSession) => shell.screen.remark("Unable to create ephemeral node on a local session"),
                Some(ErrorCode::InvalidAcl) => shell.screen.remark(&keeper_message("InvalidACL", Some(path))),
                _ => {}
            }
            Err(Failure::at(path, &why))
        }
    }
}

fn mode(args: &Args) -> Result<CreateMode, Failure> {
    let (ephemeral, sequential, container) = (args.has("e"), args.has("s"), args.has("c"));
    if container && (ephemeral || sequential) {
        return Err(Failure::new("-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential."));
    }
    let ttl: Option<i64> = args.number("t").map_err(|_| Failure::new("-t argument must be a long value"))?;
    if ttl.is_some() && (ephemeral || container) {
        let kind = if ephemeral { "Ephemeral" } else { "Container" };
        return Err(Failure::new(format!("TTLs cannot be used with {kind} znodes")));
    }
    let in_bounds = |ttl: i64| u64::try_from(ttl).ok().filter(|ttl| (1..=TTL_MAX).contains(ttl));
    let too_long = || Failure::new(format!("ttl must be positive and cannot be larger than: {TTL_MAX}"));
    let ttl = ttl.map(|ttl| in_bounds(ttl).ok_or_else(too_long)).transpose()?;
    Ok(match (ttl, ephemeral, sequential) {
        (Some(ttl), _, true) => CreateMode::PersistentSequentialTtl(ttl),
        (Some(ttl), _, false) => CreateMode::PersistentTtl(ttl),
        (None, true, true) => CreateMode::EphemeralSequential,
        (None, true, false) => CreateMode::Ephemeral,
        (None, false, true) => CreateMode::PersistentSequential,
        (None, false, false) if container => CreateMode::Container,
        (None, false, false) => CreateMode::Persistent,
    })
}

pub(super) fn delete(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let path = path_of(args);
    let mut version = args.version()?;
    if let Some(old) = args.plain.get(1) {
        shell.screen.remark("'delete path [version]' has been deprecated. Please use 'delete [-v version] path' instead.");
        // zkCli deletes whatever the version is; whoever names one wants it to be checked.
        version = old.parse().map_err(|_| Failure::new(format!("For input string: \"{old}\"")))?;
    }
    wait(path, shell.client()?.pipelined().delete_version(path, version)).map(|()| Answer::Nothing)
}

pub(super) fn delete_all(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let batch: Option<i32> = args.number("b").map_err(|_| Failure::new("-b argument must be an int value"))?;
    let path = path_of(args);
    let client = shell.client()?.clone();
    let tree = below(&client, path)?;
    let Some(batch) = batch.map_or(Some(DELETE_BATCH), |n| usize::try_from(n).ok().filter(|n| *n > 0)) else {
        // One by one, which says what is wrong with which.
        tree.iter().rev().try_for_each(|node| wait(node, client.pipelined().delete_version(node, -1)))?;
        return Ok(Answer::Nothing);
    };
    if !delete_in_batches(&client.pipelined(), &tree, batch) {
        let said = "Failed to delete some node(s) in the subtree!";
        return Ok(Answer::Remark(said.to_owned(), json!({ "error": said })));
    }
    Ok(Answer::Nothing)
}

/// A node and all below it, parents first, level by level.
fn below(client: &ZooClient, root: &str) -> Result<Vec<String>, Failure> {
    let mut tree = vec![root.to_owned()];
    let mut at = 0;
    while at < tree.len() {
        // A level at a time is asked for at once.
        let level: Vec<_> = tree[at..].iter().map(|path| (path.clone(), client.pipelined().children(path))).collect();
        at = tree.len();
        for (path, pending) in level {
            let (names, _) = wait(&path, pending)?;
            tree.extend(names.iter().map(|name| child(&path, name)));
        }
    }
    Ok(tree)
}

/// The last of `tree` first, so many in a transaction; false when one failed, after which no more are sent.
fn delete_in_batches(calls: &Pipelined<'_>, tree: &[String], batch: usize) -> bool {
    let send = |nodes: &[String]| nodes.iter().rev().fold(calls.transaction(), |all, node| all.delete(node)).send();
    let mut under_way = std::collections::VecDeque::new();
    let mut success = true;
    for nodes in tree.rchunks(batch) {
        if under_way.len() == DELETE_BATCHES {
            success &= under_way.pop_front().is_none_or(|oldest: Pending<_>| oldest.wait().is_ok());
        }
        if !success {
            break;
        }
        under_way.push_back(send(nodes));
    }
    under_way.into_iter().fold(success, |all, one| one.wait().is_ok() && all)
}

pub(super) fn stat(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let path = path_of(args);
    let calls = shell.client()?.pipelined();
    let found = if args.has("w") {
        let (found, watch) = calls.exists_and_watch(path);
        let found = wait(path, found)?;
        shell.watches.push(KeptWatch::new(path, WatchKind::Data, watch));
        found
    } else {
        wait(path, calls.exists(path))?
    };
    found.map(Answer::Stat).ok_or_else(|| Failure::at(path, &Error::Refused(ErrorCode::NoNode)))
}

pub(super) fn sync(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let path = path_of(args);
    match shell.client()?.sync(path) {
        Ok(()) => Ok(Answer::Text("Sync is OK".to_owned(), json!({ "synced": true }))),
        Err(Error::Refused(code)) => {
            Ok(Answer::Text(format!("Sync has failed. rc={}", code.code()), json!({ "synced": false, "code": code.code() })))
        }
        Err(why) => Err(Failure::at(path, &why)),
    }
}

pub(super) fn ephemerals(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let path = args.plain.first().map_or("/", String::as_str);
    wait(path, shell.client()?.pipelined().ephemerals(path)).map(Answer::Ephemerals)
}

pub(super) fn count_all(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let path = path_of(args);
    wait(path, shell.client()?.pipelined().count_all(path)).map(Answer::Count)
}

pub(super) fn close(shell: &mut Shell, _: &Args) -> Result<Answer, Failure> {
    shell.close();
    Ok(Answer::Nothing)
}

pub(super) fn version(_: &mut Shell, _: &Args) -> Result<Answer, Failure> {
    let version = zookeeper_build();
    Ok(Answer::Text(format!("ZooKeeper CLI version: {version}"), json!({ "version": version, "zoo": crate::admin::version::ZOO_VERSION })))
}
