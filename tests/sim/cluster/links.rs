//! What is on its way from one server to another.

use super::*;

impl World {
    pub(super) fn send(&mut self, life: Life, link: LinkId, message: Message) {
        let Some((at, way)) = self.network.find(life, link) else { return };
        let delay = self.prng.below(self.conditions.delay_ms * 1_000_000 + 1);
        let Some(link) = self.network.links.get_mut(&at).filter(|l| l.ends[way].is_open) else { return };
        let time = (self.now + delay).max(link.planned[way] + 1);
        link.planned[way] = time;
        let messages = match message {
            Message::Image(zxid, image) => vec![Message::Packet(Packet::Snap { zxid }), Message::Image(zxid, image)],
            message => vec![message],
        };
        link.queues[way].extend(messages);
        self.at(time, Event::Deliver(at, way));
    }
    pub(super) fn close_end(&mut self, at: u64, way: usize, silently: bool) {
        let Some(link) = self.network.links.get_mut(&at).filter(|l| l.ends[way].is_open) else { return };
        if silently {
            link.is_cut = [true, true];
        } else {
            let life = link.ends[way].life;
            let own = link.ends[way].link;
            self.send(life, own, Message::Closed);
        }
        if let Some(link) = self.network.links.get_mut(&at) {
            link.ends[way].is_open = false;
        }
    }
    pub(super) fn dialed(&mut self, life: Life, link: LinkId, to: PeerId, port: Port) {
        if self.alive(life).is_none() {
            return;
        }
        let blocked = self.network.is_blocked(life.0, to) || self.network.is_blocked(to, life.0);
        let Some(other) = self.running(to).map(|r| r.life).filter(|_| !blocked) else {
            return self.input(life, Input::Disconnected(link));
        };
        let at = self.network.link(life, link, other);
        let accepted = self.network.links[&at].ends[1].link;
        self.input(other, port(accepted));
        self.input(life, Input::Connected(link));
    }
    pub(super) fn deliver(&mut self, at: u64, way: usize) {
        let Some(link) = self.network.links.get_mut(&at) else { return };
        let (from, to) = (link.ends[way], link.ends[1 - way]);
        if self.paused(to.life.0, || Event::Deliver(at, way)) {
            return;
        }
        let blocked = self.network.is_blocked(from.life.0, to.life.0);
        let Some(link) = self.network.links.get_mut(&at) else { return };
        if let Some(owed) = &mut link.stalled[way]
            && link.ends[1 - way].is_open
        {
            *owed += 1;
            return;
        }
        link.is_cut[way] |= blocked;
        let Some(message) = link.queues[way].pop_front() else { return };
        if link.is_cut[way] || !to.is_open {
            link.queues[way].clear();
            return;
        }
        match message {
            Message::Packet(packet) => self.input(to.life, Input::Packet(to.link, packet)),
            Message::Image(..) => {} // nobody has asked for it
            Message::Closed => {
                self.network.links.entry(at).and_modify(|l| l.ends[1 - way].is_open = false);
                self.input(to.life, Input::Disconnected(to.link));
                self.fail_image(to.life, to.link);
            }
        }
    }
    pub(super) fn notified(&mut self, from: PeerId, to: PeerId) {
        if self.network.is_blocked(from, to) {
            self.after(50, Event::Notified(from, to));
        } else if !self.paused(to, || Event::Notified(from, to))
            && let Some(message) = self.network.notifications.remove(&(from, to))
            && let Some(life) = self.running(to).map(|r| r.life)
        {
            if self.prng.chance(self.conditions.repeats, 100) {
                self.count("notifications repeated");
                let delay = self.prng.below(2_000);
                self.after(delay, Event::Repeated(from, to, message.clone()));
            }
            self.input(life, Input::Notification { from, message });
        }
    }
}
