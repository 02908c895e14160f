//! The client's futures on runtimes it knows nothing of: tokio's, whose tasks may move between threads, and glommio's, whose tasks never do.

use std::future::{Future, poll_fn};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use zoo::base::SessionId;
use zoo::client::{AddWatchMode, CreateMode, Error, ErrorCode, EventType, SessionState, ZooClient};
use zoo::proto::connect::{ConnectRequest, ConnectResponse};
use zoo::server::ZooServer;

/// Longer than anything takes when it works.
const PATIENCE: Duration = Duration::from_secs(60);
/// As the server's executors have it: glommio loses tasks of an executor that is interrupted before its first one.
const PREEMPT_TIMER: Duration = Duration::from_secs(24 * 3600);

/// What a runtime has to offer.
trait Runtime: 'static {
    fn run<F: Future<Output = ()> + 'static>(main: impl FnOnce() -> F + Send + 'static);
    fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> impl Future<Output = T> + Unpin;
}

struct Tokio;

impl Runtime for Tokio {
    fn run<F: Future<Output = ()> + 'static>(main: impl FnOnce() -> F + Send + 'static) {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(main());
    }

    fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> impl Future<Output = T> + Unpin {
        let mut task = tokio::spawn(task);
        poll_fn(move |cx| Pin::new(&mut task).poll(cx).map(|ended| ended.expect("no panic")))
    }
}

struct Glommio;

impl Runtime for Glommio {
    fn run<F: Future<Output = ()> + 'static>(main: impl FnOnce() -> F + Send + 'static) {
        let executor = glommio::LocalExecutorBuilder::default().preempt_timer(PREEMPT_TIMER).spawn(main).expect("io_uring is there");
        executor.join().expect("no panic");
    }

    fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> impl Future<Output = T> + Unpin {
        glommio::spawn_local(task)
    }
}

/// Asks once and gives up: what a runtime does with a future whose task is cancelled.
async fn begin_and_cancel<T>(future: impl Future<Output = T>) {
    let mut future = pin!(future);
    poll_fn(|cx| {
        drop(future.as_mut().poll(cx));
        Poll::Ready(())
    })
    .await;
}

fn client(server: &str) -> ZooClient {
    ZooClient::builder(server).session_timeout(PATIENCE).connect().expect("a session")
}

/// Tasks share a session; each writes and reads its own node, and gives up on some of its requests while they are under way.
async fn many_tasks_at_once<R: Runtime>(server: String) {
    let client = client(&server);
    let one = |client: ZooClient, task: usize| async move {
        let (p, path) = (client.pipelined(), format!("/task-{task}"));
        p.create(&path, b"", CreateMode::Persistent).await.expect("made");
        for round in 0..60 {
            let value = format!("{task}/{round}").into_bytes();
            let set = p.set_version(&path, &value, round);
            let given_up = p.get(&format!("/task-{}", task / 2));
            let got = p.get(&path);
            begin_and_cancel(given_up).await;
            if round % 3 == 0 {
                // It goes on without anybody who waits for it.
                begin_and_cancel(set).await;
            } else {
                assert_eq!(set.await.expect("its version").version, round + 1);
            }
            let (data, stat) = got.await.expect("there");
            assert_eq!((data, stat.version), (value, round + 1), "the answer to this task's request, behind its write");
        }
        task
    };
    let tasks: Vec<_> = (0..24).map(|task| R::spawn(one(client.clone(), task))).collect();
    for (number, task) in tasks.into_iter().enumerate() {
        assert_eq!(task.await, number);
    }
    let p = client.pipelined();
    let refused = p.transaction().set("/task-0", b"").delete("/task-none").send().await;
    assert_eq!(refused, Err(Error::RefusedPart { index: 1, code: ErrorCode::NoNode }));
    p.close().await.expect("closed");
    assert_eq!(p.get("/task-0").await, Err(Error::Closed));
}

/// A task that waits for a watch is woken by what another one does; a wait that is given up loses no event.
async fn watches_wake_tasks<R: Runtime>(server: String) {
    let client = client(&server);
    let (set, mut all) = client.pipelined().add_watch("/", AddWatchMode::PersistentRecursive);
    set.await.expect("set");
    let (absent, mut created) = client.pipelined().exists_and_watch("/n3");
    assert_eq!(absent.await, Ok(None));
    begin_and_cancel(all.event()).await;
    let waits = R::spawn(async move {
        let event = created.event().await.expect("an event");
        assert_eq!(created.event().await, None, "it fires once");
        event
    });
    let makes = R::spawn(async move {
        for i in 0..200 {
            client.pipelined().create(&format!("/n{i}"), b"", CreateMode::Persistent).await.expect("made");
        }
        client
    });
    for i in 0..200 {
        let event = all.event().await.expect("an event");
        assert_eq!((event.kind, event.path), (EventType::NodeCreated, format!("/n{i}")));
    }
    assert_eq!(waits.await.path, "/n3");
    let client = makes.await;
    client.pipelined().close().await.expect("closed");
    assert_eq!(all.event().await, None, "the session is over");
}

/// Requests are under way while the server goes and comes back: reads are repeated, writes say what is not known, and every answer finds its request.
async fn a_server_comes_back<R: Runtime>(mut server: ZooServer) {
    let client = client(server.host());
    let p = client.pipelined();
    let paths: Vec<String> = (0..100).map(|i| format!("/n{i}")).collect();
    for path in &paths {
        p.create(path, path.as_bytes(), CreateMode::Persistent).await.expect("made");
    }
    let mut states = client.states();
    // What runs on other threads must not hold up the tasks of this one.
    let restarted = std::thread::spawn(move || {
        server.stop().expect("a clean stop");
        server.restart().expect("the same port");
        server
    });
    let is_back = Arc::new(AtomicBool::new(false));
    let reads = {
        let (client, paths, is_back) = (client.clone(), paths.clone(), is_back.clone());
        R::spawn(async move {
            let mut count = 0;
            while !is_back.load(Ordering::Relaxed) {
                let asked: Vec<_> = paths.iter().map(|path| client.pipelined().get(path)).collect();
                for (i, (read, path)) in asked.into_iter().zip(&paths).enumerate() {
                    if i % 5 == 0 {
                        begin_and_cancel(read).await;
                    } else {
                        assert_eq!(read.await.expect("repeated").0, path.as_bytes());
                        count += 1;
                    }
                }
            }
            count
        })
    };
    assert_eq!(states.change().await, Some(SessionState::Suspended));
    let waits = p.set_version("/n0", b"new", -1);
    assert_eq!(states.change().await, Some(SessionState::Connected));
    is_back.store(true, Ordering::Relaxed);
    assert!(matches!(waits.await, Ok(_) | Err(Error::ConnectionLoss)), "it waits for a connection, and may lose that one");
    assert!(reads.await > 0);
    p.create("/mine", b"", CreateMode::Ephemeral).await.expect("the session goes on");
    assert_eq!(p.get("/mine").await.expect("there").1.ephemeral_owner, client.session_id());
    p.close().await.expect("closed");
    drop(restarted.join().expect("no panic"));
}

/// A server that says hello and nothing else.
fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let serve = |mut stream: TcpStream| -> std::io::Result<()> {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut frame)?;
        let timeout_ms = ConnectRequest::decode(&frame).expect("a client").timeout_ms;
        let mut answer = Vec::new();
        ConnectResponse { timeout_ms, session: SessionId(7), password: [0; 16], read_only: Some(false) }.write_frame(&mut answer);
        stream.write_all(&answer)?;
        std::io::copy(&mut stream, &mut std::io::sink()).map(drop)
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Everything that waits for an answer is told that there will be none.
async fn time_is_up_at_a_silent_server<R: Runtime>(server: String) {
    let client =
        ZooClient::builder(&server).session_timeout(PATIENCE).request_timeout(Duration::from_millis(300)).start().expect("a client");
    let tasks: Vec<_> = (0..10)
        .map(|i| {
            let client = client.clone();
            R::spawn(async move {
                let (read, write) = (client.pipelined().get("/a"), client.pipelined().set_version("/a", b"", i));
                begin_and_cancel(client.pipelined().sync("/")).await;
                (read.await.map(drop), write.await.map(drop))
            })
        })
        .collect();
    for task in tasks {
        let (read, write) = task.await;
        // Whoever asked before there was a connection may have been given up before one came.
        let is_over = |ended: Result<(), Error>| matches!(ended, Err(Error::ConnectionLoss | Error::NotSent));
        assert!(is_over(read) && is_over(write));
    }
    client.abandon();
}

macro_rules! on_each_runtime {
    ($($name:ident),*) => {
        mod on_tokio {
            $(#[test] fn $name() { super::$name::<super::Tokio>(); })*
        }
        mod on_glommio {
            $(#[test] fn $name() { super::$name::<super::Glommio>(); })*
        }
    };
}

on_each_runtime!(
    answers_find_the_requests_of_many_tasks,
    events_wake_the_tasks_that_wait_for_them,
    a_session_goes_on_when_its_server_comes_back,
    nobody_waits_for_ever_for_a_server_that_says_nothing
);

fn answers_find_the_requests_of_many_tasks<R: Runtime>() {
    let server = ZooServer::start().expect("a server");
    let host = server.host().to_owned();
    R::run(|| many_tasks_at_once::<R>(host));
}

fn events_wake_the_tasks_that_wait_for_them<R: Runtime>() {
    let server = ZooServer::start().expect("a server");
    let host = server.host().to_owned();
    R::run(|| watches_wake_tasks::<R>(host));
}

fn a_session_goes_on_when_its_server_comes_back<R: Runtime>() {
    let server = ZooServer::start().expect("a server");
    R::run(|| a_server_comes_back::<R>(server));
}

fn nobody_waits_for_ever_for_a_server_that_says_nothing<R: Runtime>() {
    let host = silent().to_string();
    R::run(|| time_is_up_at_a_silent_server::<R>(host));
}
