//! Which of its servers a client would rather be at: those of some zones first, and within a zone those that are near.

use super::Host;

/// Two servers whose distances differ by less are equally near, whatever the factor: a switch more is no reason to go elsewhere.
const NOISE_US: u64 = 500;

/// What a client is told to prefer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preference {
    /// Zones, the better ones first, each as what its servers are called: a name, `name:port`, or a pattern with `*` at its beginning or end.
    pub zones: Vec<Vec<String>>,
    /// A server of a zone is near when it takes at most so many percent of what the nearest of the zone takes to be connected to. `None`: nothing is
    /// measured.
    pub near_percent: Option<u64>,
}

/// How good a server is; the least is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    zone: usize,
    reach: Reach,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reach {
    Near,
    Unknown,
    Far,
}

/// The preference, and what was measured last.
#[derive(Debug)]
pub(super) struct Ranking {
    preference: Preference,
    /// How long it takes to connect to them, in µs.
    distances: Vec<(Host, u64)>,
}

impl Ranking {
    pub(super) fn new(preference: Preference) -> Self {
        Ranking { preference, distances: Vec::new() }
    }

    /// All servers are equally good.
    pub(super) fn is_indifferent(&self) -> bool {
        self.preference.zones.is_empty() && self.preference.near_percent.is_none()
    }

    /// Those that were not reached are not among them.
    pub(super) fn measured(&mut self, distances: Vec<(Host, u64)>) {
        self.distances = distances;
    }

    /// How good a server is.
    pub(super) fn rank(&self, host: &Host) -> Rank {
        let zone = self.zone(host);
        let of_zone = self.distances.iter().filter(|(host, _)| self.zone(host) == zone);
        let reach = match (self.distance(host), of_zone.map(|(_, us)| *us).min(), self.preference.near_percent) {
            (Some(us), Some(nearest), Some(percent)) => {
                if us <= (nearest.saturating_mul(percent) / 100).max(nearest + NOISE_US) {
                    Reach::Near
                } else {
                    Reach::Far
                }
            }
            _ => Reach::Unknown,
        };
        Rank { zone, reach }
    }

    fn distance(&self, host: &Host) -> Option<u64> {
        self.distances.iter().find(|(known, _)| known == host).map(|(_, us)| *us)
    }

    fn zone(&self, host: &Host) -> usize {
        let zones = &self.preference.zones;
        zones.iter().position(|zone| zone.iter().any(|name| is_called(host, name))).unwrap_or(zones.len())
    }
}

impl Rank {
    /// Whoever is at a server with this rank goes to one with `other`: that is known to be within reach, and better in more than not being unknown.
    pub(super) fn yields_to(self, other: Rank) -> bool {
        other.reach == Reach::Near && (other.zone < self.zone || other.zone == self.zone && self.reach == Reach::Far)
    }
}

fn is_called(host: &Host, name: &str) -> bool {
    let fits = |whole: &str| match (name.strip_prefix('*'), name.strip_suffix('*')) {
        (Some(end), _) => whole.ends_with(end),
        (None, Some(start)) => whole.starts_with(start),
        (None, None) => whole == name,
    };
    fits(&host.name) || fits(&host.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> Host {
        Host { name: name.into(), port: 1 }
    }

    fn ranking(zones: &[&[&str]], near_percent: Option<u64>, distances: &[(&str, u64)]) -> Ranking {
        let zones = zones.iter().map(|zone| zone.iter().map(|name| (*name).to_owned()).collect()).collect();
        let mut ranking = Ranking::new(Preference { zones, near_percent });
        ranking.measured(distances.iter().map(|(name, us)| (host(name), *us)).collect());
        ranking
    }

    #[test]
    fn servers_belong_to_the_first_zone_that_names_them() {
        let ranking = ranking(&[&["a", "10.1.*"], &["*.near.example", "b:1"], &["*"]], None, &[]);
        let zones = ["a", "10.1.2.3", "x.near.example", "b", "10.11.1.1"].map(|name| ranking.zone(&host(name)));
        assert_eq!(zones, [0, 0, 1, 1, 2]);
        assert!(!ranking.is_indifferent() && Ranking::new(Preference::default()).is_indifferent());
    }

    #[test]
    fn near_is_what_takes_little_more_than_the_nearest_of_the_zone() {
        let ranking = ranking(&[&["z*"]], Some(150), &[("z1", 10_000), ("z2", 15_000), ("z3", 15_001), ("a", 100), ("b", 599), ("c", 900)]);
        let reach = ["z1", "z2", "z3", "z4", "a", "b", "c"].map(|name| ranking.rank(&host(name)).reach);
        use Reach::{Far, Near, Unknown};
        assert_eq!(reach, [Near, Near, Far, Unknown, Near, Near, Far]);
        let yields = |from: &str, to: &str| ranking.rank(&host(from)).yields_to(ranking.rank(&host(to)));
        assert!(yields("z3", "z1") && yields("a", "z2"), "the zone counts more than the distance");
        assert!(!yields("z1", "z2") && !yields("z1", "a") && !yields("z4", "z1") && !yields("a", "z4") && !yields("z1", "z3"));
    }

    #[test]
    fn without_a_measure_zones_are_all_there_is() {
        let ranking = ranking(&[&["z"]], None, &[("z", 9_000_000), ("a", 1)]);
        assert!(ranking.rank(&host("z")) < ranking.rank(&host("a")));
    }
}
