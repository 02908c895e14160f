//! Four-letter words: the layout of what they answer. Numbers that depend on the run are masked.

use super::Context;
use crate::reference::request::*;
use crate::reference::words::ask_bytes;

/// Every number becomes `N`: digits, a point, and the exponent Java writes behind small ones (`6.0E-4`).
fn digits(text: &str) -> String {
    let mut out = String::new();
    let mut in_number = false;
    let mut rest = text;
    while let Some(ch) = rest.chars().next() {
        if in_number && rest.starts_with("E-") {
            rest = &rest[2..];
            continue;
        }
        rest = &rest[ch.len_utf8()..];
        let number = ch.is_ascii_digit() || (in_number && ch == '.');
        if number && !in_number {
            out.push('N');
        }
        if !number {
            out.push(ch);
        }
        in_number = number;
    }
    out
}

/// Only what stands before the separator, sorted.
fn keys(text: &str, separator: char) -> String {
    let mut keys: Vec<_> = text.lines().map(|l| l.split(separator).next().unwrap_or(l)).collect();
    keys.sort_unstable();
    keys.join("\n")
}

/// The version line keeps its form, the rest of `srvr` its numbers where both must count alike.
fn srvr(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let exact = ["Connections: ", "Outstanding: ", "Mode: ", "Node count: "].iter().any(|k| line.starts_with(k));
        if exact { line.to_owned() } else { version(&digits(line)) }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// `Zookeeper version: N-<commit>, built on …`: the commit is anybody's.
fn version(line: &str) -> String {
    match (line.strip_prefix("Zookeeper version: N-"), line.find(", built on ")) {
        (Some(_), Some(at)) => format!("Zookeeper version: N-commit{}", &line[at..]),
        _ => line.to_owned(),
    }
}

fn sorted_blocks(text: &str) -> String {
    // `wchc` and `wchp` list in no order: a heading, then its indented lines.
    let mut blocks: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        match (line.starts_with('\t'), blocks.last_mut()) {
            (true, Some(block)) => block.push(line),
            _ => blocks.push(vec![line]),
        }
    }
    for block in &mut blocks {
        block[1..].sort_unstable();
    }
    blocks.sort();
    blocks.concat().join("\n")
}

fn sorted_lines(text: &str) -> String {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

pub fn all(c: &mut Context<'_>) {
    let p = &mut c.pair;
    let a = p.connect();
    let b = p.connect();
    p.call(a, &create("/words", b"", PERSISTENT));
    p.call(a, &create("/words/e", b"", EPHEMERAL));
    p.call(b, &create("/words/f", b"", EPHEMERAL));
    p.call(b, &get_data("/words", true));
    p.call(b, &exists("/words/none", true));
    p.call(a, &get_data("/words", true));
    p.call(a, &get_children("/words", true));
    p.call(a, &add_watch("/words/p", 0));
    p.word("ruok", str::to_owned);
    p.word("isro", str::to_owned);
    p.word("srvr", srvr);
    p.word("stat", |t| sorted_lines(&srvr(t)));
    p.word("conf", |t| {
        t.lines()
            .map(|l| {
                if l.starts_with("dataDir") || l.starts_with("dataLogDir") || l.contains("Size=") || l.starts_with("clientPort=") {
                    l.split('=').next().unwrap()
                } else {
                    l
                }
            })
            .collect::<Vec<_>>()
            .join("\n")
    });
    p.word("envi", |t| keys(t, '='));
    p.word("envi", |t| {
        t.lines().filter(|l| l.starts_with("zookeeper.version")).map(digits).map(|l| l.split('-').next().unwrap().to_owned()).collect()
    });
    p.word("wchs", str::to_owned);
    p.word("wchp", sorted_blocks);
    p.word("wchc", sorted_blocks);
    p.word("dirs", digits);
    p.word("gtmk", str::to_owned);
    p.word("cons", |t| sorted_lines(&connection_lines(t)));
    let own = [a, b].map(|conn| p.session_name(conn));
    p.word("dump", |t| dump(t, &own));
    p.word("mntr", gauges);
    p.word("mntr", exact_gauges);
    p.word("hash", |t| t.lines().map(|l| l.split(':').next().unwrap_or("")).collect::<Vec<_>>().join(" "));
    p.word("crst", str::to_owned);
    p.word("cons", |t| sorted_lines(&connection_lines(t)));
    p.word("srst", str::to_owned);
    p.word("xxxx", |t| if t.starts_with("no answer") { String::new() } else { t.into() });
    // With more behind it, and in two pieces.
    p.word("ruok\n", |t| if t.starts_with("no answer") { "imok".into() } else { t.into() });
    let masks = p.ports().map(|port| ask_bytes(port, b"stmk\0\0\0\0\0\0\x01\x32").unwrap_or_default());
    if masks[0] != masks[1] {
        p.report("stmk", &masks[0], &masks[1]);
    }
    p.word("gtmk", str::to_owned);
}

/// One line per connection: the form, not the numbers; the last operation is what it is.
fn connection_lines(text: &str) -> String {
    let lines = text.lines().map(|line| {
        line.split(',').map(|field| if field.starts_with("lop=") { field.to_owned() } else { hexes(field) }).collect::<Vec<_>>().join(",")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Hexadecimal and decimal numbers masked alike.
fn hexes(text: &str) -> String {
    match text.split_once("0x") {
        Some((before, after)) => format!("{}0xN{}", digits(before), after.trim_start_matches(|c: char| c.is_ascii_hexdigit())),
        None => digits(text),
    }
}

/// The bucket lines depend on the moment: the kinds of lines that occur, and all that names a session or a path. Of connections with a session only
/// `own`: the reference server may go on listing one that is closed, when a last touch of it has lost the race against its removal.
fn dump(text: &str, own: &[String]) -> String {
    let is_left_over =
        |l: &&str| l.rsplit_once("sessionId: ").is_some_and(|(_, id)| id.starts_with('S') && !own.iter().any(|own| own == id));
    let mut lines: Vec<String> = text
        .lines()
        .filter(|l| !is_left_over(l))
        .map(|line| match line {
            l if l.contains(" expire at ") => "N expire at <date>".into(),
            l if l.contains("Sets (") => digits(l),
            l if l.contains("ip: /") => l.split(':').next().unwrap_or("").to_owned() + l.rsplit(' ').next().unwrap_or(""),
            l => l.to_owned(),
        })
        .collect();
    lines.sort();
    lines.dedup();
    lines.join("\n")
}

/// The names that every monitoring script reads; the many timings inside Java's request processors have no counterpart.
fn gauges(text: &str) -> String {
    let names = [
        "approximate_data_size",
        "auth_failed_count",
        "avg_latency",
        "connection_drop_probability",
        "ephemerals_count",
        "global_sessions",
        "local_sessions",
        "max_file_descriptor_count",
        "max_latency",
        "min_latency",
        "non_mtls_local_conn_count",
        "non_mtls_remote_conn_count",
        "num_alive_connections",
        "open_file_descriptor_count",
        "outstanding_requests",
        "outstanding_tls_handshake",
        "packets_received",
        "packets_sent",
        "server_state",
        "snap_count",
        "uptime",
        "version",
        "watch_count",
        "znode_count",
    ];
    let known = keys(text, '\t');
    known.lines().filter(|k| k.strip_prefix("zk_").is_some_and(|k| names.contains(&k))).collect::<Vec<_>>().join("\n")
}

fn exact_gauges(text: &str) -> String {
    let exact = [
        "zk_server_state",
        "zk_znode_count",
        "zk_ephemerals_count",
        "zk_watch_count",
        "zk_num_alive_connections",
        "zk_global_sessions",
        "zk_local_sessions",
        "zk_outstanding_requests",
    ];
    sorted_lines(&text.lines().filter(|l| exact.iter().any(|k| l.split('\t').next() == Some(k))).collect::<Vec<_>>().join("\n"))
}

pub fn not_allowed(c: &mut Context<'_>) {
    let p = &mut c.pair;
    for word in [
        "ruok",
        "stat",
        "mntr",
        "cons",
        "conf",
        "dump",
        "envi",
        "wchs",
        "wchc",
        "wchp",
        "isro",
        "hash",
        "dirs",
        "crst",
        "srst",
        "gtmk",
        "stmk\0\0\0\0\0\0\u{1}2",
    ] {
        p.word(word, str::to_owned);
    }
    let interrupted = p.ports().map(|port| ask_bytes(port, &[0xff, 0xf4, 0xff, 0xfd]).unwrap_or_default());
    if interrupted[0] != interrupted[1] {
        p.report("telnet's interrupt", &interrupted[0], &interrupted[1]);
    }
    p.word("srvr", srvr);
}
