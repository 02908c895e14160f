//! Disks of single members under load: full, standing still, wiped, of an earlier day.

use crate::ensemble::Cluster;
use crate::small_disk::{Filler, SmallDisk};
use crate::support::wait_until;
use crate::{SMALL_FILES, Stage, TIMES};
use std::path::Path;

/// The member whose disk it is about: among equals the one with the highest id is elected.
const MEMBER: usize = 3;

impl Stage {
    fn on_disk(disk: &SmallDisk) -> Stage {
        let cluster = Cluster::prepare(MEMBER, &[&TIMES[..], &SMALL_FILES].concat());
        let place = cluster.data_dir(MEMBER);
        copy(&place, &disk.data_dir());
        std::fs::remove_dir_all(&place).expect("removed");
        std::os::unix::fs::symlink(disk.data_dir(), &place).expect("a link");
        Stage::set_with(cluster)
    }

    /// Makes the member lead, or follow.
    fn cast(&mut self, leads: bool) {
        loop {
            let leader = self.leader();
            if (leader == MEMBER) == leads {
                return;
            }
            self.cluster.kill(leader);
            self.cluster.settled(&self.others(&[leader]));
            self.heal();
        }
    }
}

/// A directory and all below it.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        let target = to.join(entry.file_name().expect("a name"));
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            std::fs::copy(&entry, &target).expect("copied");
        }
    }
}

/// L12, P15: a member that cannot write any more ends, as a follower and as the leader, and comes back with everything when there is room.
#[test]
fn a_member_whose_disk_is_full_ends_and_nothing_is_lost() {
    let Some(disk) = SmallDisk::new("a_member_whose_disk_is_full_ends_and_nothing_is_lost") else { return };
    let mut stage = Stage::on_disk(&disk);
    for leads in [false, true] {
        stage.cast(leads);
        let mut filler = Filler::new(disk.mount_point().join("filler"));
        wait_until("the member with a full disk ends", || {
            filler.fill();
            stage.cluster.mode(MEMBER).is_none() && stage.cluster.log(MEMBER).contains("fatal: ")
        });
        let (status, log) = stage.cluster.members[MEMBER - 1].process.take().expect("known").ended();
        assert!(!status.success() && log.contains("No space left"), "{status}:\n{log}");
        stage.load.goes_on("writes without it", 30);
        filler.remove();
        stage.heal();
    }
    stage.judge("a full disk");
}

/// P2, P15: a member whose disk does not answer acknowledges nothing and holds up nobody; as the leader it gives up.
#[test]
fn a_disk_that_stands_still_holds_up_nobody_else() {
    let Some(disk) = SmallDisk::new("a_disk_that_stands_still_holds_up_nobody_else") else { return };
    let mut stage = Stage::on_disk(&disk);
    for leads in [false, true] {
        stage.cast(leads);
        let frozen = disk.freeze();
        stage.load.goes_on("writes while one disk stands still", 60);
        drop(frozen);
        stage.heal();
    }
    stage.judge("a disk that stood still");
}

/// L21: a member that has lost its disk, and one that gets back a disk of an earlier day, take everything from the others.
#[test]
fn members_with_an_empty_or_an_older_disk_come_back_with_everything() {
    let mut stage = Stage::set(3);
    for is_restored in [true, false, true] {
        let leader = stage.leader();
        let member = stage.others(&[leader])[0];
        let (place, copied) = (stage.cluster.data_dir(member), stage.cluster.data_dir(member).with_extension("copy"));
        let _ = std::fs::remove_dir_all(&copied);
        stage.cluster.kill(member);
        if is_restored {
            copy(&place, &copied);
            stage.cluster.run(member);
            stage.heal();
            stage.load.goes_on("writes after the copy", 150);
            stage.cluster.kill(member);
        }
        std::fs::remove_dir_all(place.join("version-2")).expect("wiped");
        if is_restored {
            copy(&copied, &place);
        }
        stage.load.goes_on("writes without the member", 30);
        stage.heal();
        // It is as good as any other now.
        stage.cluster.kill(leader);
        stage.cluster.settled(&stage.others(&[leader]));
        stage.load.goes_on("writes that need it", 20);
        stage.heal();
    }
    stage.judge("empty and older disks");
}
