use super::*;
use crate::base::{SessionId, WallTime, Xid};
use crate::record::TxnHeader;
use proptest::prelude::*;

const THREE: &str = "server.1=a:1:2:participant;a:3\nserver.2=b:1:2:participant;b:3\nserver.3=c:1:2:observer\nversion=100000000";
const NEXT: Zxid = Zxid(0x1_0000_0007);

fn three() -> Membership {
    Membership::parse(THREE).expect("valid")
}
fn asked<'a>(joining: &'a str, leaving: &'a str) -> ReconfigRequest<'a> {
    let given = |list: &'a str| Some(list).filter(|list| !list.is_empty());
    ReconfigRequest { joining: given(joining), leaving: given(leaving), members: None, version: -1 }
}
fn whole(members: &str) -> ReconfigRequest<'_> {
    ReconfigRequest { joining: None, leaving: None, members: Some(members), version: -1 }
}
fn outcome(request: &ReconfigRequest<'_>) -> Result<String, ReconfigError> {
    request.applied_to(&three(), 2, NEXT).map(|next| next.to_text())
}

#[test]
fn servers_leave_others_join_or_take_a_place_and_the_version_is_the_zxid() {
    let text = outcome(&asked("server.4=d:1:2;3,server.2=b:7:8;b:3", "3,9")).expect("valid");
    let lines = "server.1=a:1:2:participant;a:3\nserver.2=b:7:8:participant;b:3\nserver.4=d:1:2:participant;0.0.0.0:3\nversion=100000007";
    assert_eq!(text, lines);
}

#[test]
fn a_whole_list_may_be_of_any_kind_and_has_its_own_separators() {
    let text = "server.5=e:1:2:participant\nserver.6=f:1:2:participant\ngroup.1=5\ngroup.2=6\nweight.5=1\nweight.6=1\nversion=100000007";
    let lines = "server.5=e:1:2,server.6=f:1:2\ngroup.1=5\ngroup.2=6";
    assert_eq!(outcome(&whole(lines)).expect("valid"), text);
    let hierarchical = whole(lines).applied_to(&three(), 2, NEXT).expect("valid");
    assert_eq!(asked("", "5").applied_to(&hierarchical, 1, NEXT), Err(ReconfigError::BadArguments), "only majorities change in steps");
}

#[test]
fn what_is_no_configuration_is_refused_with_the_code_of_zookeeper() {
    use ReconfigError::{BadArguments, Malformed};
    for (joining, leaving, error) in [
        ("", "two", Malformed),
        ("server.x=d:1:2;3", "", Malformed),
        ("server.4", "", BadArguments),
        ("server.4=d:1:2", "", BadArguments),
        ("server.4=d:1;3", "", BadArguments),
        ("server.4=d:1:1;3", "", BadArguments),
        ("server.4=a:9:2;9", "", BadArguments),
        ("", "2", BadArguments),
    ] {
        assert_eq!(outcome(&asked(joining, leaving)), Err(error), "{joining} {leaving}");
    }
    for (members, error) in
        [("server.1=a:1:2", BadArguments), ("nonsense=1", BadArguments), ("server.1=a:b:2\nserver.2=c:1:2", BadArguments)]
    {
        assert_eq!(outcome(&whole(members)), Err(error), "{members}");
    }
    assert_eq!(whole("server.1=a:1:2").applied_to(&three(), 1, NEXT).map(|next| next.voters().count()), Ok(1));
}

#[test]
fn addresses_of_every_machine_do_not_clash() {
    let local = |id: i64| format!("server.{id}=127.0.0.1:1:2;0.0.0.0:3");
    let joining = format!("{},{}", local(4), local(5));
    assert!(outcome(&asked(&joining, "")).is_ok());
    assert_eq!(outcome(&asked("server.4=d:1:2;3,server.5=d:4:1;6", "")), Err(ReconfigError::BadArguments));
}

fn payload(txn: &Txn<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    TxnHeader { session: SessionId(1), cxid: Xid(1), zxid: NEXT, time: WallTime(1), kind: txn.kind() }.write(&mut out);
    txn.write_body(&mut out);
    out
}

#[test]
fn a_proposal_tells_its_configuration_and_others_tell_none() {
    let path = "/zookeeper/config";
    assert_eq!(proposed_in(&payload(&Txn::Reconfig { path, data: Some(THREE.as_bytes()), version: -1 })), Some(three()));
    assert_eq!(proposed_in(&payload(&Txn::SetData { path, data: Some(THREE.as_bytes()), version: -1 })), None);
    assert_eq!(proposed_in(&payload(&Txn::Reconfig { path, data: Some(b"rubbish"), version: -1 })), None);
    assert_eq!(version_of(THREE), Some(1 << 32));
    assert_eq!((version_of("version="), version_of("server.1=a:1:2")), (None, None));
}

proptest! {
    #[test]
    fn no_bytes_of_a_peer_are_more_than_refused(bytes in prop::collection::vec(any::<u8>(), 0..80), text in "\\PC{0,40}") {
        let _ = (proposed_in(&bytes), version_of(&text));
        let mut reconfig = payload(&Txn::Reconfig { path: "/", data: None, version: -1 });
        reconfig.truncate(TXN_HEADER_BYTES);
        reconfig.extend(bytes);
        let _ = proposed_in(&reconfig);
        let _ = outcome(&asked(&text, ""));
        let _ = outcome(&asked("", &text));
        let _ = outcome(&whole(&text));
    }
}
