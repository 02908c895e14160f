//! What a server's log, epoch files and images come to on its disk, and what is published of it.

use super::*;

impl World {
    pub(super) fn work(&mut self, life: Life, work: Work) {
        let Some(running) = self.alive(life) else { return };
        running.work.push_back(work);
        if running.work.len() == 1 {
            self.plan_disk(life);
        }
    }
    pub(super) fn plan_disk(&mut self, life: Life) {
        let delay = self.prng.below(self.conditions.flush_ms + 1);
        self.after(delay, Event::DiskDone(life));
    }
    /// Everything appended so far, unless a flush is waiting to start.
    pub(super) fn flush(&mut self, life: Life) {
        let Some(server) = self.servers.get_mut(&life.0) else { return };
        let Some(running) = server.running.as_mut() else { return };
        let waiting = running.work.iter().any(|w| matches!(w, Work::Flush(_)));
        if !waiting && running.memory.len() > server.platter.history.len() {
            let upto = running.memory.len();
            self.work(life, Work::Flush(upto));
        }
    }
    pub(super) fn disk_done(&mut self, life: Life) {
        let Some(server) = self.servers.get_mut(&life.0) else { return };
        let Some(running) = server.running.as_mut().filter(|r| r.life == life) else { return };
        let Some(work) = running.work.pop_front() else { return };
        if matches!(work, Work::Flush(_)) && self.prng.chance(self.conditions.flush_failures, 1_000) {
            return self.flush_failed(life);
        }
        let Some(server) = self.servers.get_mut(&life.0) else { return };
        let Some(running) = server.running.as_mut() else { return };
        let before = server.platter.history.len();
        if let Work::Truncate(zxid) = &work {
            // Others may have committed more meanwhile, without this server's acknowledgement; `check_disks` sees to that.
            assert!(
                running.committed <= *zxid,
                "server {:?} is cut to {zxid}, below {} which it knows is committed (L6)",
                life.0,
                running.committed
            );
        }
        server.platter.finish(&work, &running.memory, self.conditions.shell_bug);
        let is_shorter = server.platter.history.len() < before;
        let more = !running.work.is_empty();
        if is_shorter {
            self.check_disks();
        }
        let cuts_one_more = self.conditions.shell_bug == Some(ShellBug::CutsOneMore);
        let input = match work {
            Work::Flush(_) => {
                let last = self.servers[&life.0].platter.last();
                self.publish(life);
                Input::Durable(last)
            }
            Work::Epoch(token, ..) => Input::EpochWritten(token),
            Work::Config(token, _) => Input::ConfigWritten(token),
            Work::Truncate(zxid) => {
                let Some(running) = self.alive(life) else { return };
                running.memory.retain(|(at, _)| *at <= zxid);
                let end = running.memory.last().map_or(Zxid::ZERO, |(at, _)| *at);
                if cuts_one_more {
                    running.memory.pop();
                }
                running.applied = running.applied.min(running.memory.len());
                Input::Truncated(end)
            }
            Work::Install(zxid, image) => {
                let Some(running) = self.alive(life) else { return };
                running.applied = image.len();
                running.committed = Zxid::ZERO;
                running.memory = image;
                self.image_done(life, Some(zxid));
                self.plan_more(life, more);
                return;
            }
        };
        self.input(life, input);
        self.flush(life);
        self.plan_more(life, more);
    }
    /// A log that cannot be written ends the process (L12).
    pub(super) fn flush_failed(&mut self, life: Life) {
        self.count("flushes failed");
        if self.conditions.shell_bug != Some(ShellBug::SwallowedError) {
            self.crash(life.0, false);
            return self.after(300, Event::Start(life.0));
        }
        let Some(running) = self.alive(life) else { return };
        let last = running.memory.last().map_or(Zxid::ZERO, |(at, _)| *at);
        let more = !running.work.is_empty();
        self.input(life, Input::Durable(last));
        self.plan_more(life, more);
    }
    pub(super) fn plan_more(&mut self, life: Life, more: bool) {
        if more && self.alive(life).is_some() {
            self.plan_disk(life);
        }
    }
    pub(super) fn commit(&mut self, life: Life, zxid: Zxid) {
        if let Some(running) = self.alive(life) {
            assert!(running.committed <= zxid, "commit moves back to {zxid}");
            assert!(running.memory.iter().rev().any(|(at, _)| *at == zxid) || zxid == Zxid::ZERO, "commit of {zxid}, which is not here");
            running.committed = zxid;
        }
        self.publish(life);
        self.check_disks();
    }
    /// Shows what is committed and durable.
    pub(super) fn publish(&mut self, life: Life) {
        let Some(server) = self.servers.get_mut(&life.0) else { return };
        let durable = server.platter.last();
        let Some(running) = server.running.as_mut().filter(|r| r.life == life) else { return };
        let upto = running.committed.min(durable);
        let count = running.memory.partition_point(|(at, _)| *at <= upto);
        if count > running.applied || running.committed > Zxid::ZERO && count > 0 {
            running.applied = running.applied.max(count);
            self.checker.published(life.0, &running.memory, count);
            if let Some(next) = self.checker.membership.take() {
                self.in_force(next);
            }
            self.trace = self.trace.rotate_left(5) ^ upto.0;
        }
    }
    /// What is committed is on the disks of a quorum, running or not (P3).
    pub(super) fn check_disks(&self) {
        let last = self.checker.last_committed();
        if last > Zxid::ZERO {
            let quorum = self.membership.quorum();
            let has = |server: &Server| server.platter.has(last) || server.wiped.is_some_and(|end| end >= last);
            assert!(quorum.reached(|id| has(&self.servers[&id])), "{last} is committed, but on no quorum of disks (P2, P3)");
        }
    }

    /// A part of the log on the disk, which old files may be purged from and which ends where an image has taken its place.
    pub(super) fn read_log(&mut self, life: Life, link: LinkId, from: Zxid, upto: Zxid, first: bool) {
        let refusals = self.conditions.log_refusals.max(if first { 0 } else { self.conditions.log_breaks });
        if self.prng.chance(refusals, 100) {
            return self.input(life, Input::LogRead(link, Err("purged".into())));
        }
        let Some(server) = self.servers.get(&life.0).filter(|s| s.running.as_ref().is_some_and(|r| r.life == life)) else { return };
        let count = 2 + self.prng.below(60) as usize;
        let log = server.platter.log().iter();
        let mut part: Vec<Entry> = log.filter(|(zxid, _)| (from..=upto).contains(zxid)).take(count).cloned().collect();
        // What is missing at the end of an epoch cannot be seen by whoever does not know where it ended.
        let shows = part.len() > 1 && part.get(2).is_none_or(|(next, _)| next.epoch() == part[1].0.epoch());
        if shows && self.prng.chance(self.conditions.log_holes, 100) {
            part.remove(1);
            self.count("holes in logs");
        }
        if !first && !part.is_empty() {
            self.reach("parts of logs sent");
        }
        self.input(life, Input::LogRead(link, Ok(part)));
    }

    // ---- images

    pub(super) fn send_image(&mut self, life: Life, link: LinkId, zxid: Zxid) {
        let Some(running) = self.alive(life) else { return };
        let count = running.memory.partition_point(|(at, _)| *at <= zxid);
        let end = count.checked_sub(1).map_or(Zxid::ZERO, |last| running.memory[last].0);
        assert_eq!(end, zxid, "an image is as of a transaction, exactly (A12)");
        assert!(running.role == Role::Looking || zxid <= running.committed, "an established leader gives away what is not committed");
        let mut image = running.memory[..count].to_vec();
        if self.conditions.shell_bug == Some(ShellBug::ImageBehindItsLabel) {
            image.pop();
        }
        self.reach("SNAP");
        self.send(life, link, Message::Image(zxid, image));
        let delay = self.prng.below(self.conditions.delay_ms + 1);
        self.after(delay, Event::SnapshotSent(life, link));
    }
    /// The image is the next message of the link; it arrives, or the link dies while it does.
    pub(super) fn install(&mut self, life: Life, link: LinkId) {
        let Some((at, way)) = self.network.find(life, link) else { return };
        let way = 1 - way;
        let fails = self.prng.chance(self.conditions.image_failures, 100);
        let Some(connection) = self.network.links.get_mut(&at) else { return };
        connection.stalled[way] = Some(0);
        let (zxid, image) = match connection.queues[way].pop_front() {
            Some(Message::Image(zxid, image)) => (zxid, image),
            _ => panic!("no image behind SNAP"),
        };
        if let Some(running) = self.alive(life) {
            running.installing = Some((at, way, link));
        }
        if fails {
            let delay = self.prng.below(2_000);
            self.after(delay, Event::SnapshotFailed(life, link));
        } else {
            self.work(life, Work::Install(zxid, image));
        }
    }
    pub(super) fn image_done(&mut self, life: Life, installed: Option<Zxid>) {
        let Some(running) = self.alive(life) else { return };
        let Some((at, way, _)) = running.installing.take() else { return };
        let input = installed.map_or_else(|| Input::SnapshotFailed("the stream broke off".into()), Input::SnapshotInstalled);
        self.input(life, input);
        if let Some(link) = self.network.links.get_mut(&at)
            && let Some(owed) = link.stalled[way].take()
        {
            for _ in 0..owed {
                self.after(0, Event::Deliver(at, way));
            }
        }
    }
    /// The link is gone while its image was on the way: it fails, unless the disk has it already.
    pub(super) fn fail_image(&mut self, life: Life, link: LinkId) {
        self.after(1, Event::SnapshotFailed(life, link));
    }
}
