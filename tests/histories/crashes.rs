//! kill -9 and clean restarts under load.

use crate::Stage;
use rustix::process::Signal;

/// P2, P3, P15, L7.
#[test]
fn members_killed_under_load_break_no_promise() {
    let mut stage = Stage::set(3);
    let leader = stage.leader();
    let follower = stage.others(&[leader])[0];
    for killed in [vec![leader], vec![follower], vec![1, 2, 3], vec![1, 2]] {
        killed.iter().for_each(|id| stage.cluster.kill(*id));
        if killed.len() == 1 {
            stage.load.goes_on("writes without one member", 30);
        }
        stage.heal();
    }
    stage.judge("members killed");
}

/// P13, P16: no session ends because its member goes away.
#[test]
fn a_rolling_restart_under_load_loses_no_session() {
    let mut stage = Stage::set(3);
    for _ in 0..2 {
        for id in stage.ids() {
            let process = stage.cluster.members[id - 1].process.take().expect("running");
            let (status, log) = process.stop_with(Signal::TERM);
            assert!(status.success(), "member {id} ends with {status}:\n{log}");
            stage.load.goes_on("writes without one member", 20);
            stage.heal();
        }
    }
    stage.judge("a rolling restart");
}
