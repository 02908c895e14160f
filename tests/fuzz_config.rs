//! Damaged configuration files, flags and four-letter words: no panic, and every refusal is one readable line.

mod fuzzing;

use fuzzing::{each_case, mutate, pick};
use std::fs;
use zoo::admin::four_letter::{Order, answer, needs};
use zoo::admin::{AdminView, Whitelist};
use zoo::record::epochs::Epochs;
use zoo::server::ServerConfig;

const CASES: u64 = 1_000;

/// No client addresses: a damaged one would be looked up as a name.
const LINES: &[&str] = &[
    "tickTime=2000",
    "dataDir=/data",
    "dataLogDir : /log",
    "clientPort 2181",
    "maxClientCnxns=0",
    "autopurge.snapRetainCount=5",
    "autopurge.purgeInterval=24",
    "minSessionTimeout=-1",
    "server.1=[::1]:2888:3888:participant;2181",
    "group.1=1:2:3",
    "4lw.commands.whitelist=*, ruok",
    "DigestAuthenticationProvider.superDigest=super:D/InIHSb7yEEbrWz8b9l71RjZJU=",
    "jute.maxbuffer=0xfffff",
    "zoo.outBufferMax=64m",
    "zoo.shards=auto",
    "# comment \\",
    "key\\ with\\=escapes=\\u0041\\\n   continued",
    "forceSync=no",
    "tickTme=1",
];

#[test]
fn damaged_files_never_panic_and_errors_are_one_line() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("zoo.cfg");
    let args = [path.to_str().expect("UTF-8").to_owned()];
    each_case("files", CASES, |rng| {
        let mut text = String::from("dataDir=/data\nclientPort=2181\n");
        for _ in 0..rng.below(8) {
            text.push_str(pick(rng, LINES));
            text.push_str(pick(rng, &["\n", "\r\n", "\r"]));
        }
        let mut bytes = text.into_bytes();
        mutate(rng, &mut bytes);
        fs::write(&path, &bytes).expect("write");
        check(ServerConfig::load(&args, &|_| None));
    });
}

#[test]
fn damaged_flags_and_variables_never_panic() {
    each_case("flags", CASES, |rng| {
        let mut args = Vec::new();
        for _ in 0..rng.below(5) {
            let mut flag = format!("{}{}", pick(rng, &["--", "-D", "-Dzookeeper.", ""]), pick(rng, LINES)).into_bytes();
            if rng.chance(1, 2) {
                mutate(rng, &mut flag);
            }
            args.push(String::from_utf8_lossy(&flag).into_owned());
        }
        // A file of that name must not decide the outcome.
        args.retain(|a| a.starts_with('-') && !a.contains("dynamicConfigFile"));
        check(ServerConfig::load(&args, &|_| Some(args.join(" "))));
    });
}

/// A configuration that was accepted gives usable structs; a message has no control characters (rule S9).
fn check(outcome: Result<(ServerConfig, Vec<String>), impl std::fmt::Display>) {
    let messages = match outcome {
        Ok((config, warnings)) => {
            let (replica, shard) = (config.replica(1, config.log(2, Epochs::NONE, None)), config.shard(3));
            assert!(replica.tick_ms > 0 && replica.min_session_timeout_ms <= replica.max_session_timeout_ms);
            assert!(shard.frame_bytes_max > 0 && shard.out_buffer_bytes_max >= shard.frame_bytes_max);
            assert!(replica.log.unsynced_bytes_max * 2 <= replica.log.segment_bytes);
            warnings
        }
        Err(why) => vec![why.to_string()],
    };
    for message in messages {
        assert!(!message.is_empty() && !message.contains(char::is_control), "{message:?}");
    }
}

#[test]
fn any_four_bytes_are_answered_without_panic() {
    let words = [*b"conf", *b"cons", *b"dump", *b"envi", *b"mntr", *b"ruok", *b"stmk", *b"srvr", *b"wchc", *b"hash", *b"isro"];
    each_case("words", CASES, |rng| {
        let mut word = pick(rng, &words).to_vec();
        if rng.chance(1, 2) {
            mutate(rng, &mut word);
        }
        word.resize(4, b' ');
        let word = [word[0], word[1], word[2], word[3]];
        let arg: Vec<u8> = (0..rng.below(12)).map(|_| rng.next_u64() as u8).collect();
        let mut view = AdminView { serving: rng.chance(1, 2), ..AdminView::default() };
        if rng.chance(3, 4) {
            view.facts.whitelist = Whitelist::parse("*").0;
        }
        let _ = needs(word, &view.facts);
        let answer = answer(word, &arg, &view);
        assert!(std::str::from_utf8(&answer.text).is_ok());
        let mask = matches!(answer.order, Some(Order::SetTraceMask(_)));
        assert!(!mask || (word == *b"stmk" && arg.len() >= 8));
    });
}
