use super::*;
use proptest::prelude::*;

const FOUR: &str = "server.1=127.0.0.1:22301:22401:participant\nserver.2=127.0.0.1:22302:22402:participant;127.0.0.1:22202\n\
    server.3=zoo3.example:22303:22403:participant\nserver.4=127.0.0.1:22304:22404:observer;0.0.0.0:22204\nversion=100000004";

fn parse(text: &str) -> Membership {
    Membership::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn a_text_of_a_java_server_is_understood_and_printed_as_it_was() {
    let four = parse(FOUR);
    assert_eq!(four.to_text(), FOUR);
    assert_eq!(four.version, 0x1_0000_0004);
    assert_eq!(four.voters().collect::<Vec<_>>(), [1, 2, 3].map(PeerId));
    assert!(four.is_voter(PeerId(3)) && !four.is_voter(PeerId(4)) && !four.is_voter(PeerId(9)));
    assert_eq!(four.members[&PeerId(2)].client, Some(("127.0.0.1".to_owned(), 22202)));
    let address = MemberAddress { host: "zoo3.example".to_owned(), quorum_port: 22303, election_port: 22403 };
    assert_eq!(four.members[&PeerId(3)].addresses, [address]);
    let by = |ids: &[i64]| four.quorum().reached(|id| ids.contains(&id.0));
    assert!(by(&[1, 3]) && !by(&[1, 4]), "an observer is no part of a quorum");
}

#[test]
fn lines_a_person_wrote_come_out_in_the_form_of_java() {
    for (written, printed) in [
        ("h:1:2", "h:1:2:participant"),
        ("h:1:2:OBSERVER", "h:1:2:observer"),
        ("h:1:2;2181", "h:1:2:participant;0.0.0.0:2181"),
        ("h:1:2:participant;c:2181", "h:1:2:participant;c:2181"),
        ("[::1]:1:2;[2001:DB8::2]:2181", "[0:0:0:0:0:0:0:1]:1:2:participant;[2001:db8:0:0:0:0:0:2]:2181"),
        ("b:3:4|a:1:2:observer", "a:1:2|b:3:4:observer"),
        ("a:1:2:participant|a:5:6:participant", "a:1:2|a:5:6:participant"),
    ] {
        let mut out = String::new();
        let member = Member::parse("server.1", written).unwrap_or_else(|e| panic!("{written}: {e}"));
        member.write(&mut out);
        assert_eq!(out, printed);
        assert_eq!(Member::parse("server.1", &out), Ok(member));
    }
}

#[test]
fn groups_and_weights_are_printed_whole() {
    let text = "server.1=a:1:2:participant\nserver.2=b:1:2:participant\nserver.3=c:1:2:participant\nserver.4=d:1:2:observer\n\
        group.1=1:2\ngroup.2=3\nweight.1=1\nweight.2=0\nweight.3=7\nversion=0";
    let written = text.replace("group.1=1:2", "group.1 = 2:1").replace("weight.1=1\n", "# a comment\n\n");
    let membership = parse(&written);
    assert_eq!(membership.to_text(), text);
    assert_eq!(parse(text), membership);
    assert_eq!(membership.weights, [(PeerId(2), 0), (PeerId(3), 7)].into());
    assert_eq!([1, 2, 3, 4].map(|id| membership.quorum().weight(PeerId(id))), [1, 0, 7, 0]);
    assert!(membership.quorum().reached(|id| id != PeerId(2)) && !membership.quorum().reached(|id| id != PeerId(3)));
}

#[test]
fn what_is_no_configuration_is_refused_with_the_key_at_fault() {
    use MembershipError as E;
    let key = |text: &str| text.to_owned();
    let server = "server.1=a:1:2\n";
    for (text, error) in [
        ("", E::NoParticipant),
        ("server.1=a:1:2:observer", E::NoParticipant),
        ("server.1", E::NoValue),
        ("server.x=a:1:2", E::UnknownKey(key("server.x"))),
        ("server.-1=a:1:2", E::UnknownKey(key("server.-1"))),
        ("server.9223372036854775807=a:1:2", E::UnknownKey(key("server.9223372036854775807"))),
        ("clientPort=1", E::UnknownKey(key("clientPort"))),
        ("peer.1=a:1:2", E::UnknownKey(key("peer.1"))),
        ("server.1=a:1:2\nserver.1=b:1:2", E::Twice(key("server.1"))),
        ("server.1=a:1:2\nserver.01=b:1:2", E::Twice(key("server.01"))),
        ("server.1=a:5:5", E::SamePorts(key("server.1"))),
        ("version=-1", E::Value(key("version"))),
        ("version=xyz", E::Value(key("version"))),
    ] {
        assert_eq!(Membership::parse(text), Err(error), "{text}");
    }
    for (lines, error) in [
        ("weight.1=2", E::NotInOneGroup(1)),
        ("group.1=1:1", E::NotInOneGroup(1)),
        ("group.1=1\ngroup.2=1", E::NotInOneGroup(1)),
        ("group.1=1:2", E::NoVoter(2)),
        ("group.1=", E::Value(key("group.1"))),
        ("group.1=1\nweight.1=-1", E::Value(key("weight.1"))),
        ("group.a=1", E::UnknownKey(key("group.a"))),
    ] {
        assert_eq!(Membership::parse(&format!("{server}{lines}")), Err(error), "{lines}");
    }
    for value in [
        "",
        "a",
        "a:1",
        "a:1:x",
        "a:1:70000",
        ":1:2",
        "a b:1:2",
        "a:1:2:boss",
        "a:1:2:observer:3",
        "a:1:2;",
        "a:1:2;c:d:e",
        "a:1:2;1;2",
        "[::1:1:2",
        "[::1]1:2",
        "a:1:2|",
        "a:1:2:observer|b:1:2:participant",
    ] {
        assert_eq!(Member::parse("server.1", value), Err(E::Server(key("server.1"))), "{value}");
    }
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z][a-z0-9.-]{0,8}", "[0-9]{1,3}\\.[0-9]\\.0\\.1", any::<[u16; 8]>().prop_map(|s| Ipv6Addr::from(s).to_string())]
}

fn member_line() -> impl Strategy<Value = String> {
    let address = (host(), 1u16..100, 100u16..).prop_map(|(host, quorum, election)| {
        let mut text = String::new();
        write_host(&mut text, &host);
        format!("{text}:{quorum}:{election}")
    });
    let tail = prop_oneof![Just(""), Just(":observer"), Just(":participant"), Just(";2181"), Just(":observer;[::2]:2181")];
    (prop::collection::vec(address, 1..4), tail).prop_map(|(addresses, tail)| addresses.join("|") + tail)
}

proptest! {
    #[test]
    fn printing_and_parsing_are_inverse(lines in prop::collection::btree_map(1i64..300, member_line(), 1..6), weights in prop::collection::vec(0u64..3, 6), version in 0..i64::MAX) {
        let mut text: String = lines.iter().map(|(id, line)| format!("server.{id}={line}\n")).collect();
        text += &format!("server.0=a:1:2\nversion={version:x}");
        let plain = parse(&text);
        prop_assert_eq!(&parse(&plain.to_text()), &plain);
        for (id, weight) in plain.voters().zip(&weights) {
            text += &format!("\ngroup.{}={}\nweight.{}={weight}", id.0, id.0, id.0);
        }
        let grouped = parse(&text);
        prop_assert_eq!(&parse(&grouped.to_text()), &grouped);
        prop_assert_eq!(parse(&grouped.to_text()).to_text(), grouped.to_text());
    }
}
