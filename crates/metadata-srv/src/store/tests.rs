use std::os::unix::fs::PermissionsExt as _;

use vmmgr_common::api::seed::SeedSpec;
use vmmgr_common::secret::Secret;

use super::*;

const VM: &str = "6f5d8bf6-d580-4946-9541-13fa98b4acf4";

fn vm() -> VmId {
    VmId::parse(VM).unwrap()
}

fn record(hostname: &str) -> SeedRecord {
    let hash = Secret::new("$6$salt$0123456789012345678901234567890123456789".to_owned());
    SeedRecord {
        vm: vm(),
        spec: SeedSpec {
            hostname: Some(hostname.into()),
            password_hash: Some(hash),
            ..SeedSpec::default()
        },
        macs: vec![MacAddress::parse("52:54:00:00:00:01").unwrap()],
        committed: false,
    }
}

fn open(folder: &Path) -> Store {
    Store::open(folder, Defaults::default()).unwrap()
}

fn meta_data(store: &Store) -> String {
    let answer = store.get(vm()).unwrap().file(SeedFile::MetaData).unwrap();
    String::from_utf8(answer.body().to_vec()).unwrap()
}

#[test]
fn a_restart_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let before = open(dir.path());
    before.put(record("a")).unwrap();
    before.put(record("b")).unwrap();
    before.commit(vm()).unwrap();
    let after = open(dir.path());
    assert_eq!(meta_data(&before), meta_data(&after));
    assert!(meta_data(&after).contains(&format!("{VM}-2")));
    assert!(after.get(vm()).unwrap().committed());
}

#[test]
fn files_are_ours_alone_and_leave_with_the_guest() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("seeds");
    let store = open(&folder);
    store.put(record("a")).unwrap();
    let mode = |path: &Path| fs_err::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(mode(&folder.join(format!("{VM}.json"))), 0o600);
    store.delete(vm()).unwrap();
    store.delete(vm()).unwrap();
    assert!(store.get(vm()).is_none());
    assert_eq!(fs_err::read_dir(&folder).unwrap().count(), 0);
    assert!(open(&folder).get(vm()).is_none());
}

#[test]
fn a_refused_record_leaves_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put(record("a")).unwrap();
    let before = meta_data(&store);
    assert_eq!(store.put(record("not a name")).unwrap_err().status, 422);
    assert_eq!(meta_data(&store), before);
    assert_eq!(meta_data(&open(dir.path())), before);
}

#[test]
fn a_record_that_cannot_reach_the_disk_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("seeds");
    let store = open(&folder);
    fs_err::remove_dir(&folder).unwrap();
    assert_eq!(store.put(record("a")).unwrap_err().code, ErrorCode::Internal);
    assert!(store.get(vm()).is_none());
}

#[test]
fn the_trace_stays_until_the_instance_changes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.put(record("a")).unwrap();
    store.get(vm()).unwrap().trace.note("meta-data", 200, "x".into(), std::time::Duration::ZERO);
    let total = || store.get(vm()).unwrap().trace.boot().total;
    store.put(record("a")).unwrap();
    store.set_callers(vm(), vec![]).unwrap();
    store.commit(vm()).unwrap();
    assert_eq!(total(), 1);
    store.put(record("b")).unwrap();
    assert_eq!(total(), 0);
}

#[test]
fn what_a_crash_left_is_removed_and_rot_costs_one_guest() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).put(record("a")).unwrap();
    let other = "11111111-d580-4946-9541-13fa98b4acf4";
    fs_err::write(dir.path().join(format!("{VM}.tmp")), "{\"generation\"").unwrap();
    fs_err::write(dir.path().join(format!("{other}.json")), "{").unwrap();
    let copied = dir.path().join("22222222-d580-4946-9541-13fa98b4acf4.json");
    fs_err::copy(dir.path().join(format!("{VM}.json")), copied).unwrap();
    let store = open(dir.path());
    assert_eq!(store.seeds.load().len(), 1);
    assert!(store.get(vm()).is_some());
    assert!(!dir.path().join(format!("{VM}.tmp")).exists());
}

#[test]
fn changes_of_a_missing_seed_are_404() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!(store.commit(vm()).unwrap_err().status, 404);
    assert_eq!(store.set_callers(vm(), vec![]).unwrap_err().status, 404);
    assert_eq!(store.preview(vm()).unwrap_err().status, 404);
}

#[test]
fn a_seed_is_written_again_as_the_same_or_as_another_instance() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.put(record("a")).unwrap();
    store.note_read(vm()).unwrap();
    let window = chrono::TimeDelta::zero();
    assert!(store.get(vm()).unwrap().locked(window));
    let stored = store.require(vm()).unwrap().stored();
    assert_eq!(stored.generation, 1);
    store.put_as(stored.record.clone(), Some(1)).unwrap();
    assert!(!store.get(vm()).unwrap().locked(window), "the secrets can be read again");
    assert!(meta_data(&store).contains(&format!("\"instance-id\": \"{}\"", vm())));
    store.put_as(stored.record.clone(), Some(2)).unwrap();
    assert!(meta_data(&store).contains(&format!("\"instance-id\": \"{}-2\"", vm())));
    // Taking it back makes the instance of before, not a third one.
    store.put_as(stored.record.clone(), Some(stored.generation)).unwrap();
    assert_eq!(store.require(vm()).unwrap().stored(), stored);
}
