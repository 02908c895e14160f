//! A seeded stream of requests over a small set of paths, so that most of them meet something.

use crate::pair::{Conn, Pair};
use crate::reference::request::*;
use crate::scenarios::Context;
use zoo::base::prng::Prng;

const CONNECTIONS: usize = 3;
const NAMES: &[&str] = &["a", "b", "c", "d-"];

struct Run<'a> {
    pair: &'a mut Pair,
    random: Prng,
    conns: Vec<Conn>,
}

pub fn run(context: &mut Context<'_>, seed: u64, steps: u64) {
    let pair = &mut context.pair;
    pair.scenario(&format!("random, seed {seed:#x}"));
    let conns: Vec<_> = (0..CONNECTIONS).map(|_| pair.connect()).collect();
    pair.call(conns[0], &create("/r", b"", PERSISTENT));
    let mut run = Run { pair, random: Prng::new(seed), conns };
    let mut done = 0;
    while done < steps {
        done += run.step();
    }
    run.look();
}

impl Run<'_> {
    fn pick(&mut self, n: usize) -> usize {
        self.random.below(n as u64) as usize
    }

    /// One step; returns how many requests it made.
    fn step(&mut self) -> u64 {
        let which = self.pick(CONNECTIONS);
        let conn = self.conns[which];
        match self.random.below(100) {
            0 => {
                self.pair.close(conn);
                self.conns[which] = self.pair.connect();
                1
            }
            1 => {
                self.pair.drop_socket(conn);
                self.conns[which] = self.pair.reattach(conn);
                1
            }
            2 => {
                // While the older connection is still open; when the server closes it is not the same moment twice.
                self.conns[which] = self.pair.reattach(conn);
                self.pair.drop_socket(conn);
                1
            }
            3 => {
                let user = ["u:p", "v:q"][self.pick(2)];
                self.pair.call(conn, &auth("digest", user.as_bytes()));
                1
            }
            4 => {
                let back = self.random.below(60) as i64;
                let paths: Vec<Vec<String>> = (0..5).map(|_| (0..self.pick(3)).map(|_| self.path()).collect()).collect();
                let lists: Vec<Vec<&str>> = paths.iter().map(|l| l.iter().map(String::as_str).collect()).collect();
                let lists: Vec<&[&str]> = lists.iter().map(Vec::as_slice).collect();
                self.pair.call_each(conn, |known| set_watches(known.last_zxid(conn) - back, &lists));
                1
            }
            5..15 => {
                let mut burst: Vec<_> = (0..2 + self.pick(12)).map(|_| self.request()).collect();
                // What follows a setACL in flight is judged differently: see the listed differences.
                if let Some(at) = burst.iter().position(|r| r.op == SET_ACL) {
                    burst.truncate(at + 1);
                }
                self.pair.calls(conn, &burst);
                burst.len() as u64
            }
            _ => {
                let request = self.request();
                self.pair.call(conn, &request);
                1
            }
        }
    }

    fn path(&mut self) -> String {
        let mut path = String::from("/r");
        for _ in 0..self.random.below(4) {
            path.push('/');
            path.push_str(NAMES[self.pick(NAMES.len())]);
        }
        path
    }

    fn version(&mut self) -> i32 {
        match self.random.below(10) {
            0..7 => -1,
            7 => 0,
            8 => self.random.below(4) as i32,
            _ => self.random.below(40) as i32 - 5,
        }
    }

    fn data(&mut self) -> Vec<u8> {
        let len = [0, 1, 5, 40, 700][self.pick(5)];
        (0..len).map(|_| self.random.below(256) as u8).collect()
    }

    fn acl(&mut self) -> Vec<Acl<'static>> {
        match self.random.below(12) {
            0 => vec![(31, "auth", "")],
            1 => vec![(1, "world", "anyone"), (31, "auth", "")],
            2 => vec![(31, "digest", "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="), (1, "world", "anyone")],
            3 => vec![(15, "world", "anyone"), (16, "ip", "127.0.0.1")],
            4 => vec![],
            _ => OPEN.to_vec(),
        }
    }

    fn write(&mut self) -> Request {
        let path = self.path();
        let data = self.data();
        match self.random.below(20) {
            0..6 => {
                let op = [CREATE, CREATE2][self.pick(2)];
                let acl = self.acl();
                let flags = [0, 0, 0, 1, 1, 2, 3, 9][self.pick(8)];
                create_as(op, &path, &data, &acl, flags)
            }
            6 => create_container(&path),
            7 => create_ttl(&path, &data, [TTL, TTL_SEQUENTIAL][self.pick(2)], [1_000_000_000, 0][self.pick(2)]),
            8..13 => delete(&path, self.version()),
            13..19 => set_data(&path, &data, self.version()),
            _ => check(&path, self.version()),
        }
    }

    fn request(&mut self) -> Request {
        let path = self.path();
        let watch = self.random.chance(1, 2);
        match self.random.below(50) {
            0..20 => match self.write() {
                request if request.op == CHECK => multi(&[request]),
                request => request,
            },
            20..24 => multi(&(0..self.pick(6)).map(|_| self.write()).collect::<Vec<_>>()),
            24..28 => get_data(&path, watch),
            28..32 => exists(&path, watch),
            32..34 => get_children(&path, watch),
            34..37 => get_children2(&path, watch),
            37 => get_acl(&path),
            38 => {
                let acl = self.acl();
                set_acl(&path, &acl, self.version())
            }
            39 => sync(&path),
            40 => ping(),
            41 => add_watch(&path, self.random.below(3) as i32),
            42 => remove_watches(&path, self.random.below(7) as i32),
            43 => check_watches(&path, self.random.below(7) as i32),
            44 => get_ephemerals(Some(&path)),
            45 => get_all_children_number(&path),
            46 => who_am_i(),
            47 => multi_read(&[get_data(&path, watch), get_children(&self.path(), watch)]),
            48 => {
                let mut request = self.write();
                let cut = self.pick(request.body.len());
                // A Java leader drops the follower that passes such a request on, and with it all its clients.
                if !self.pair.is_ensemble() {
                    request.body.truncate(cut);
                }
                if request.op == CHECK { multi(&[request]) } else { request }
            }
            _ => set_data_opt(&path, None, self.version()),
        }
    }

    /// Everything that is left, node by node.
    fn look(&mut self) {
        let conn = self.conns[0];
        self.pair.call(conn, &auth("digest", b"super:test"));
        let mut level = vec!["/r".to_owned()];
        for _ in 0..4 {
            let mut next = Vec::new();
            for path in &level {
                self.pair.call(conn, &get_data(path, false));
                self.pair.call(conn, &get_acl(path));
                self.pair.call(conn, &get_children2(path, false));
                next.extend(NAMES.iter().map(|n| format!("{path}/{n}")));
            }
            level = next;
        }
        for conn in self.conns.clone() {
            self.pair.call(conn, &get_ephemerals(None));
        }
    }
}
