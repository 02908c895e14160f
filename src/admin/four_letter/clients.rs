//! `stat` and `cons`: one line per connection.

use super::server;
use crate::admin::report::AdminView;
use crate::base::address::socket_text;
use crate::shard::ConnReport;
use std::fmt::Write as _;

pub(super) fn stat(view: &AdminView) -> String {
    let mut out = server::version_lines(view);
    out.push_str("Clients:\n");
    for connection in view.connections() {
        out.push_str(&short_line(connection));
        out.push_str(")\n");
    }
    out.push_str(&super::incomplete(view));
    out.push('\n');
    out.push_str(&server::statistics(view));
    out
}

pub(super) fn cons(view: &AdminView) -> String {
    let mut out = String::new();
    for connection in view.connections() {
        out.push_str(&short_line(connection));
        out.push_str(&session_fields(connection));
        out.push_str(")\n");
    }
    out.push_str(&super::incomplete(view));
    out.push('\n');
    out
}

/// ` /127.0.0.1:1234[1](queued=0,recved=1,sent=0`, without the closing parenthesis.
fn short_line(c: &ConnReport) -> String {
    format!(" /{}[{:x}](queued={},recved={},sent={}", socket_text(c.peer), c.interest, c.queued, c.received, c.sent)
}

/// What `cons` adds once there is a session.
fn session_fields(c: &ConnReport) -> String {
    let Some(session) = c.session else { return String::new() };
    let mut out = format!(",sid={session},lop={},est={},to={}", c.last_op, c.established_ms, c.timeout_ms);
    if c.last_cxid >= 0 {
        let _ = write!(out, ",lcxid=0x{:x}", c.last_cxid);
    }
    let _ = write!(
        out,
        ",lzxid=0x{:x},lresp={},llat={},minlat={},avglat={},maxlat={}",
        c.last_zxid, c.last_response_ms, c.last_latency_ms, c.min_latency_ms, c.avg_latency_ms, c.max_latency_ms
    );
    out
}
