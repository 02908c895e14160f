//! The scripted part, by topic. A suite is one pair of servers with its settings.

mod acl;
mod lifecycle;
mod malformed;
mod multi;
pub mod ours;
mod paths;
mod sessions;
mod tree;
mod watches;
mod words;

use crate::pair::Pair;
use crate::reference::process::Settings;
use std::path::Path;

/// What a scenario works with.
#[derive(Debug)]
pub struct Context<'a> {
    pub pair: Pair,
    pub dir: &'a Path,
    pub settings: &'a Settings,
}

pub type Scenario = (&'static str, fn(&mut Context<'_>));

/// Scenarios that share a pair of servers.
#[derive(Debug)]
pub struct Suite {
    pub settings: fn() -> Settings,
    pub scenarios: &'static [Scenario],
    pub random: bool,
}

pub const SUITES: &[Suite] = &[
    Suite { settings: calm, random: true, scenarios: &[] },
    Suite {
        settings: rich,
        random: false,
        scenarios: &[
            ("system nodes", tree::system_nodes),
            ("create, read, delete", tree::create_read_delete),
            ("kinds of nodes", tree::kinds),
            ("sequential names", tree::sequential),
            ("versions", tree::versions),
            ("data sizes", tree::data_sizes),
            ("order of checks", tree::order_of_checks),
            ("pipelined", tree::pipelined),
            ("odd paths", paths::odd_paths),
            ("acl of nodes", acl::permissions),
            ("acl fix-up", acl::fix_up),
            ("auth", acl::identities),
            ("acl and events", acl::events),
            ("multi", multi::successes),
            ("multi failures", multi::failures),
            ("multi decoding", multi::decoding),
            ("multi read", multi::reads),
            ("one-shot watches", watches::one_shot),
            ("persistent watches", watches::persistent),
            ("all modes on one path", watches::all_modes),
            ("watch removal", watches::removal),
            ("set watches", watches::replayed),
            ("watch order", watches::order),
            ("malformed bodies", malformed::bodies),
            ("unknown requests", malformed::unknown_requests),
            ("framing", malformed::framing),
            ("connect requests", malformed::connect_requests),
            ("odd xids", malformed::odd_xids),
            ("session close", sessions::close),
            ("session reattach", sessions::reattach),
            ("session refused", sessions::refused),
            ("session expiry", sessions::expiry),
            ("session timeouts", sessions::timeouts),
            ("containers", lifecycle::containers),
            ("ttl nodes", lifecycle::ttl),
            ("quota", lifecycle::quota),
            ("gauges of quotas", lifecycle::quota_gauges),
            ("reconfig", lifecycle::reconfiguration),
            ("words", words::all),
            ("restart", lifecycle::clean_restart),
            ("kill", lifecycle::kill_restart),
        ],
    },
    Suite {
        settings: plain,
        random: false,
        scenarios: &[
            ("extended types off", lifecycle::extended_types_off),
            ("soft quota", lifecycle::soft_quota),
            ("words not allowed", words::not_allowed),
            ("connection limit", sessions::connection_limit),
        ],
    },
];

/// Scenarios that are about one process, what it tells of itself and what it counts; and those with requests that cannot be decoded: a Java
/// follower passes them on, and loses its leader and all its clients by it. The connection that a session has left for another member Java
/// leaves open, and ours closes it.
pub const OF_ONE_SERVER: &[&str] = &[
    "system nodes",
    "gauges of quotas",
    "reconfig",
    "words",
    "restart",
    "kill",
    "extended types off",
    "soft quota",
    "words not allowed",
    "connection limit",
    "malformed bodies",
    "multi decoding",
    "session reattach",
];

/// The digest of `super:test`, as every suite uses it.
const SUPER_DIGEST: &str = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=";

/// Containers are collected soon.
fn rich() -> Settings {
    base().define("znode.container.checkIntervalMs", "300")
}

/// Nothing happens by itself, so that a random stream meets the same nodes on both sides.
fn calm() -> Settings {
    base().define("znode.container.checkIntervalMs", "36000000")
}

fn base() -> Settings {
    Settings::new(&[
        ("tickTime", "1000"),
        ("maxClientCnxns", "0"),
        ("4lw.commands.whitelist", "*"),
        ("extendedTypesEnabled", "true"),
        ("enforceQuota", "true"),
        ("forceSync", "no"),
        ("DigestAuthenticationProvider.superDigest", SUPER_DIGEST),
    ])
}

fn plain() -> Settings {
    Settings::new(&[("tickTime", "1000")])
}
