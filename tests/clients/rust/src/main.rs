//! The `zookeeper-client` crate: data, watches of all kinds, multi, ACLs, locks under contention, and one session over restarts of the
//! server.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use zookeeper_client as zk;

type Outcome = Result<(), Box<dyn Error>>;

const WAIT_MAX: Duration = Duration::from_secs(60);

fn address() -> String {
    std::env::var("ZOO_ADDR").expect("ZOO_ADDR")
}

async fn connect() -> Result<zk::Client, zk::Error> {
    zk::Client::connector().with_session_timeout(Duration::from_secs(20)).connect(&address()).await
}

fn persistent() -> zk::CreateOptions<'static> {
    zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all())
}

fn ephemeral() -> zk::CreateOptions<'static> {
    zk::CreateMode::Ephemeral.with_acls(zk::Acls::anyone_all())
}

async fn data() -> Outcome {
    let c = connect().await?;
    let (stat, _) = c.create("/data", b"one", &persistent()).await?;
    assert_eq!(c.get_data("/data").await?, (b"one".to_vec(), stat));
    assert_eq!(c.create("/data", b"", &persistent()).await.err(), Some(zk::Error::NodeExists));
    let stat = c.set_data("/data", b"two", Some(0)).await?;
    assert_eq!(stat.version, 1);
    assert_eq!(c.set_data("/data", b"x", Some(0)).await.err(), Some(zk::Error::BadVersion));
    let sequential = zk::CreateMode::EphemeralSequential.with_acls(zk::Acls::anyone_all());
    let (stat, first) = c.create("/data/s-", b"", &sequential).await?;
    let (_, second) = c.create("/data/s-", b"", &sequential).await?;
    assert_eq!((first.into_i64(), second.into_i64()), (0, 1));
    assert_eq!(stat.ephemeral_owner, c.session_id().0);
    assert_eq!(c.list_ephemerals("/data").await?.len(), 2);
    c.create("/data/container", b"", &zk::CreateMode::Container.with_acls(zk::Acls::anyone_all())).await?;
    let ttl = persistent().with_ttl(Duration::from_secs(1000));
    c.create("/data/ttl", b"", &ttl).await?;
    assert_eq!(c.count_descendants_number("/data").await?, 4);
    let mut names = c.list_children("/data").await?;
    names.sort();
    assert_eq!(names, ["container", "s-0000000000", "s-0000000001", "ttl"]);
    assert_eq!(c.delete("/data", None).await.err(), Some(zk::Error::NotEmpty));
    c.sync("/").await?;
    let mut reader = c.new_multi_reader();
    reader.add_get_data("/data")?;
    reader.add_get_children("/data")?;
    assert_eq!(reader.commit().await?.len(), 2);
    let mut writer = c.new_multi_writer();
    writer.add_check_version("/data", 1)?;
    writer.add_create("/data/m", b"", &persistent())?;
    writer.add_set_data("/data", b"three", Some(1))?;
    writer.add_delete("/data/m", None)?;
    let results = writer.commit().await?;
    assert!(
        matches!(&results[..], [zk::MultiWriteResult::Check, zk::MultiWriteResult::Create { .. }, zk::MultiWriteResult::SetData { stat }, zk::MultiWriteResult::Delete] if stat.version == 2)
    );
    let mut writer = c.new_multi_writer();
    writer.add_create("/data/n", b"", &persistent())?;
    writer.add_check_version("/data", 77)?;
    assert!(writer.commit().await.is_err());
    assert_eq!(c.check_stat("/data/n").await?, None);
    Ok(())
}

async fn watches() -> Outcome {
    let (c, writer) = (connect().await?, connect().await?);
    let (none, created) = c.check_and_watch_stat("/watch").await?;
    assert_eq!(none, None);
    let mut recursive = c.watch("/watch", zk::AddWatchMode::PersistentRecursive).await?;
    writer.create("/watch", b"", &persistent()).await?;
    assert_eq!(created.changed().await.event_type, zk::EventType::NodeCreated);
    let (_, _, children) = c.get_and_watch_children("/watch").await?;
    let (_, _, changed) = c.get_and_watch_data("/watch").await?;
    writer.create("/watch/x", b"", &persistent()).await?;
    writer.set_data("/watch", b"1", None).await?;
    writer.delete("/watch/x", None).await?;
    writer.delete("/watch", None).await?;
    assert_eq!(children.changed().await.event_type, zk::EventType::NodeChildrenChanged);
    assert_eq!(changed.changed().await.event_type, zk::EventType::NodeDataChanged);
    let mut seen = Vec::new();
    for _ in 0..5 {
        let event = recursive.changed().await;
        seen.push((event.event_type, event.path.to_string()));
    }
    use zk::EventType::{NodeCreated, NodeDataChanged, NodeDeleted};
    let (top, child) = ("/watch".to_owned(), "/watch/x".to_owned());
    assert_eq!(
        seen,
        [
            (NodeCreated, top.clone()),
            (NodeCreated, child.clone()),
            (NodeDataChanged, top.clone()),
            (NodeDeleted, child),
            (NodeDeleted, top)
        ]
    );
    drop(recursive);
    Ok(())
}

async fn acls() -> Outcome {
    let (c, other) = (connect().await?, connect().await?);
    c.auth("digest", b"u:p").await?;
    let users = c.list_auth_users().await?;
    assert!(users.iter().any(|u| u.scheme() == "digest" && u.user() == "u"), "{users:?}");
    c.create("/mine", b"secret", &zk::CreateMode::Persistent.with_acls(zk::Acls::creator_all())).await?;
    assert_eq!(other.get_data("/mine").await.err(), Some(zk::Error::NoAuth));
    assert_eq!(
        c.get_acl("/mine").await?.0,
        [zk::Acl::new(zk::Permission::ALL, zk::AuthId::new("digest", "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="))]
    );
    c.set_acl("/mine", &zk::Acls::anyone_all(), Some(0)).await?;
    assert_eq!(other.get_data("/mine").await?.0, b"secret");
    Ok(())
}

async fn locks() -> Outcome {
    const HOLDERS: usize = 5;
    const ROUNDS: usize = 15;
    connect().await?.create("/locks", b"", &persistent()).await?;
    let inside = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for _ in 0..HOLDERS {
        let inside = inside.clone();
        tasks.push(tokio::spawn(async move {
            let c = connect().await?;
            for _ in 0..ROUNDS {
                let prefix = zk::LockPrefix::new_curator("/locks", "lock-")?;
                let lock = c.lock(prefix, b"", zk::Acls::anyone_all()).await?;
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders");
                lock.create("held", b"", &ephemeral()).await.map(drop).or_else(|_| Ok::<(), zk::Error>(()))?;
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
            }
            Ok::<(), zk::Error>(())
        }));
    }
    for task in tasks {
        task.await??;
    }
    Ok(())
}

async fn restarts() -> Outcome {
    let c = connect().await?;
    let id = c.session_id();
    c.create("/kept", b"", &ephemeral()).await?;
    for signal in ["TERM", "KILL"] {
        let (_, _, watcher) = c.get_and_watch_data("/kept").await?;
        let status = tokio::process::Command::new(std::env::var("ZOO_RESTART")?).arg(signal).status().await?;
        assert!(status.success());
        loop {
            match c.set_data("/kept", signal.as_bytes(), None).await {
                Ok(_) => break,
                Err(zk::Error::ConnectionLoss) => {}
                Err(e) => return Err(e.into()),
            }
        }
        assert_eq!(c.session_id(), id);
        assert_eq!(watcher.changed().await.event_type, zk::EventType::NodeDataChanged);
        assert_eq!(c.get_data("/kept").await?.1.ephemeral_owner, id.0);
    }
    let other = connect().await?;
    let (stat, gone) = other.check_and_watch_stat("/kept").await?;
    assert!(stat.is_some());
    drop(c);
    assert_eq!(gone.changed().await.event_type, zk::EventType::NodeDeleted);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    tokio::time::timeout(WAIT_MAX, data()).await??;
    tokio::time::timeout(WAIT_MAX, watches()).await??;
    tokio::time::timeout(WAIT_MAX, acls()).await??;
    tokio::time::timeout(WAIT_MAX, locks()).await??;
    tokio::time::timeout(WAIT_MAX, restarts()).await??;
    println!("zookeeper-client: all well");
    Ok(())
}
