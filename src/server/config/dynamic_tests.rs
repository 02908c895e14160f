use super::*;
use crate::base::PeerId;

const STATIC: &str = "# comment\ntickTime=2000\ndataDir=C:\\\\data\nclientPort=2181\nserver.1=a:1:2\nserver.2=b:1:2\ngroup.1=1:2\n\
    weight.1=1\npeerType=participant\nsyncLimit=4\ntickTime=3000\n";

fn files() -> (tempfile::TempDir, DynamicFiles) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("zoo.cfg");
    std::fs::write(&file, STATIC).expect("written");
    (dir, DynamicFiles { file, me: PeerId(1) })
}
fn membership(text: &str) -> Membership {
    Membership::parse(text).expect("valid")
}
fn active(text: &str) -> ConfigWrite {
    ConfigWrite::Active { membership: membership(text), keeps_proposed: false }
}
fn names(dir: &tempfile::TempDir) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir.path()).expect("there").map(|e| e.expect("there").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

#[test]
fn a_configuration_in_force_gets_a_file_and_the_other_file_names_it() {
    let (dir, files) = files();
    let next = "server.10=j:1:2:participant\nserver.2=b:1:2:participant\nserver.1=a:1:2:participant;a:2181\nversion=10000000a";
    files.write(&ConfigWrite::Proposed(Some(next.into()))).expect("written");
    assert_eq!(read_proposed(&files.file).expect("readable"), Some(membership(next)));
    files.write(&active(next)).expect("written");
    assert_eq!(names(&dir), ["zoo.cfg", "zoo.cfg.dynamic.10000000a"], "nothing is proposed any more");
    let dynamic = std::fs::read_to_string(dir.path().join("zoo.cfg.dynamic.10000000a")).expect("there");
    assert_eq!(dynamic, "server.10=j:1:2:participant\nserver.1=a:1:2:participant;a:2181\nserver.2=b:1:2:participant");
    let edited = std::fs::read_to_string(&files.file).expect("there");
    let pointer = dir.path().join("zoo.cfg.dynamic.10000000a");
    assert_eq!(edited, format!("tickTime=3000\ndataDir=C:\\\\data\nsyncLimit=4\ndynamicConfigFile={}\n", pointer.display()));
}

#[test]
fn a_client_port_stays_where_it_is_unless_the_list_has_it() {
    let (dir, files) = files();
    files.write(&active("server.1=a:1:2\nserver.2=b:1:2;2182\nversion=100000000")).expect("written");
    files.write(&active("server.1=a:1:2\nserver.3=b:1:2;2182\nversion=100000001")).expect("written");
    let edited = std::fs::read_to_string(&files.file).expect("there");
    assert!(edited.contains("clientPort=2181\n") && edited.ends_with("zoo.cfg.dynamic.100000001\n"), "{edited}");
    assert_eq!(edited.matches(POINTER).count(), 1);
    assert_eq!(names(&dir), ["zoo.cfg", "zoo.cfg.dynamic.100000000", "zoo.cfg.dynamic.100000001"], "older ones stay, as with ZooKeeper");
}

#[test]
fn what_is_proposed_outlives_an_older_configuration_that_takes_effect() {
    let (_dir, files) = files();
    files.write(&ConfigWrite::Proposed(Some("server.1=a:1:2\nserver.2=b:1:2\nversion=100000005".into()))).expect("written");
    let older = membership("server.1=a:1:2\nserver.2=b:1:2\nversion=100000003");
    files.write(&ConfigWrite::Active { membership: older, keeps_proposed: true }).expect("written");
    assert_eq!(read_proposed(&files.file).expect("readable").map(|m| m.version), Some(0x1_0000_0005));
    files.write(&ConfigWrite::Proposed(None)).expect("removed");
    files.write(&ConfigWrite::Proposed(None)).expect("removing what is not there is fine");
    assert_eq!(read_proposed(&files.file).expect("readable"), None);
}

#[test]
fn the_file_of_a_person_is_kept_once() {
    let (dir, files) = files();
    files.back_up().expect("copied");
    files.write(&active("server.1=a:1:2\nserver.2=b:1:2\nversion=100000000")).expect("written");
    files.back_up().expect("there is nothing of a person any more");
    assert_eq!(std::fs::read_to_string(dir.path().join("zoo.cfg.bak")).expect("there"), STATIC);
}

#[test]
fn a_file_of_what_is_proposed_that_makes_no_sense_stops_the_start() {
    let (_dir, files) = files();
    std::fs::write(beside(&files.file, NEXT), "server.1=a:1:2\nrubbish=1\n").expect("written");
    assert!(read_proposed(&files.file).is_err_and(|e| e.to_string().contains("zoo.cfg.dynamic.next")));
}
