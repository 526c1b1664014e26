//! What callers can rely on, whatever goes wrong.

use vmmgr_common::api::operation::{OperationRequest, OperationState};
use vmmgr_common::error::ErrorCode;
use vmmgr_common::ids::{OperationId, VmId};

use super::lab::Lab;
use super::seeds::Seeds;
use crate::hypervisor::HypervisorError;
use crate::hypervisor::fake::domain_xml;

#[tokio::test]
async fn the_same_id_is_the_same_operation_and_other_work_is_refused() {
    let lab = Lab::new();
    let engine = lab.engine();
    let id = OperationId::new();
    let request = OperationRequest { id, work: lab.create("http") };
    let first = engine.submit(request.clone()).await.unwrap();
    let ended = lab.ended(&engine, first.id).await;
    assert_eq!(ended.state, OperationState::Succeeded);
    assert_eq!(engine.submit(request.clone()).await.unwrap(), ended);
    let other = OperationRequest { id, work: lab.create("none") };
    let refused = engine.submit(other).await.unwrap_err();
    assert_eq!((refused.status, refused.code), (409, ErrorCode::KeyReuse));
    assert_eq!(lab.engine().submit(request).await.unwrap(), ended, "after a restart");
    assert_eq!(lab.fake.ids(), [lab.vm]);
}

#[tokio::test]
async fn a_deleted_guest_leaves_nothing_that_its_serial_line_said() {
    let lab = Lab::new();
    let engine = lab.engine();
    let work = lab.prepare(&engine, "delete").await;
    let (vm, other) = (lab.vm, VmId::new());
    let said = |name: String| lab.path("console").join(name);
    let theirs = [format!("console.{other}.log"), format!("{other}.json")];
    let own = [".log", ".log.0", ".log.2"].map(|end| format!("console.{vm}{end}"));
    for name in own.iter().chain(&theirs).chain([&format!("{vm}.json")]) {
        fs_err::write(said(name.clone()), "login: ").unwrap();
    }
    assert_eq!(lab.run(&engine, work).await.state, OperationState::Succeeded);
    let mut left: Vec<_> = fs_err::read_dir(lab.path("console"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    left.sort();
    let mut theirs = theirs.to_vec();
    theirs.sort();
    assert_eq!(left, theirs);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_holds_nobody_up() {
    let lab = Lab::new();
    let engine = lab.engine();
    engine.context().journal.crash.arm(2);
    let crash = engine.context().journal.crash.clone();
    let id = OperationId::new();
    let request = OperationRequest { id, work: lab.create("http") };
    engine.submit(request).await.unwrap();
    crash.reached.notified().await;
    let db = rusqlite::Connection::open(lab.path("state/operations.db")).unwrap();
    let poisoned = OperationId::new().to_string();
    db.execute("INSERT INTO operation (id, work, state) VALUES (?1, '{', '')", [&poisoned])
        .unwrap();
    db.execute("UPDATE operation SET number = number - 100 WHERE id = ?1", [&poisoned]).unwrap();
    let engine = lab.engine();
    engine.resume().await.unwrap();
    assert_eq!(lab.ended(&engine, id).await.state, OperationState::Succeeded);
    let left: i64 = db
        .query_row("SELECT count(*) FROM operation WHERE final = 0", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 1, "it is kept for who looks into it");
}

#[tokio::test]
async fn without_libvirt_nothing_is_done_and_the_failure_says_so() {
    let lab = Lab::new();
    let engine = lab.engine();
    for case in ["create", "delete", "attach a disk"] {
        let lab = Lab::new();
        let engine = lab.engine();
        let work = lab.prepare(&engine, case).await;
        let before = lab.host().await;
        lab.fake.lose();
        let ended = lab.run(&engine, work).await;
        let problem = ended.problem.unwrap();
        assert_eq!((problem.status, problem.code), (503, ErrorCode::HypervisorUnreachable));
        lab.fake.come_back();
        assert_eq!(lab.host().await, before, "{case}");
    }
    let work = lab.prepare(&engine, "start").await;
    assert_eq!(lab.run(&engine, work).await.state, OperationState::Succeeded);
}

#[tokio::test]
async fn a_delete_waits_for_a_seed_service_that_is_away_for_a_moment() {
    let lab = Lab::new();
    let engine = lab.engine();
    let work = lab.prepare(&engine, "delete").await;
    for _ in 0..3 {
        Seeds::shared().failing(lab.vm, "delete", false, ErrorCode::MetadataUnreachable);
    }
    assert_eq!(lab.run(&engine, work).await.state, OperationState::Succeeded);
    assert_eq!(lab.host().await, "[]\n[]\n[]\nNone\n{}");
}

#[tokio::test]
async fn a_delete_that_failed_behind_the_last_volume_is_ended_by_the_next() {
    let lab = Lab::new();
    let engine = lab.engine();
    let work = lab.prepare(&engine, "delete").await;
    for _ in 0..15 {
        Seeds::shared().failing(lab.vm, "delete", false, ErrorCode::MetadataUnreachable);
    }
    let ended = lab.run(&engine, work.clone()).await;
    assert_eq!(ended.state, OperationState::Failed);
    assert!(ended.problem.unwrap().hint.unwrap().contains("ask again"));
    assert!(lab.fake.ids().is_empty() && Seeds::shared().of(lab.vm).is_some());
    assert_eq!(lab.run(&engine, work.clone()).await.state, OperationState::Succeeded);
    assert_eq!(lab.host().await, "[]\n[]\n[]\nNone\n{}");
    let absent = lab.run(&engine, work).await.problem.unwrap();
    assert_eq!(absent.code, ErrorCode::NoSuchVm);
}

#[tokio::test]
async fn an_undo_waits_for_libvirt_and_names_what_it_could_not_take_back() {
    let lab = Lab::new();
    let engine = lab.engine();
    let away = |times: usize| {
        Seeds::shared().failing(lab.vm, "commit", false, ErrorCode::Internal);
        for _ in 0..times {
            lab.fake.failing_on("undefine", HypervisorError::Unreachable);
        }
    };
    away(5);
    let ended = lab.run(&engine, lab.create("http")).await;
    assert_eq!(ended.problem.unwrap().code, ErrorCode::Internal);
    assert_eq!(lab.host().await, "[]\n[]\n[]\nNone\n{}");
    away(15);
    let ended = lab.run(&engine, lab.create("http")).await;
    let problem = ended.problem.unwrap();
    assert!(problem.detail.contains("could not be undone: defining the guest"), "{problem}");
    assert_eq!(lab.fake.ids(), [lab.vm]);
    let done = lab.run(&engine, lab.work(serde_json::json!({"verb": "delete"}))).await;
    assert_eq!(done.state, OperationState::Succeeded, "what is left can be deleted");
}

#[tokio::test]
async fn a_guest_that_someone_else_makes_meanwhile_is_not_undone() {
    let lab = Lab::new();
    let engine = lab.engine();
    lab.fake.failing_on("define", HypervisorError::AlreadyExists(lab.vm));
    lab.fake.failing_on("domain", HypervisorError::NoSuchDomain(lab.vm));
    lab.fake.define_silently(lab.vm, &domain_xml(lab.vm));
    let ended = lab.run(&engine, lab.create("http")).await;
    assert_eq!(ended.problem.unwrap().code, ErrorCode::AlreadyExists);
    assert_eq!(lab.fake.ids(), [lab.vm]);
    assert!(Seeds::shared().of(lab.vm).is_none());
}

#[tokio::test]
async fn a_device_that_someone_else_attached_meanwhile_is_not_undone() {
    let lab = Lab::new();
    let engine = lab.engine();
    let work = lab.prepare(&engine, "attach a disk").await;
    let other = "<disk type='file' device='disk'><source file='/other'/><target dev='vda' bus='virtio'/></disk>";
    lab.fake
        .failing_on("attach", HypervisorError::Failed { code: 27, message: "vda is taken".into() });
    lab.fake.beside("pool_info", other);
    let ended = lab.run(&engine, work).await;
    assert_eq!(ended.problem.unwrap().code, ErrorCode::HypervisorFailed);
    assert!(lab.look().await.contains("/other"));
}

#[tokio::test]
async fn a_pool_without_room_takes_nothing() {
    let lab = Lab::new();
    let engine = lab.engine();
    let work = lab.prepare(&engine, "attach a disk").await;
    let before = lab.host().await;
    lab.fake.set_available(1 << 20);
    let problem = lab.run(&engine, work.clone()).await.problem.unwrap();
    assert_eq!((problem.status, problem.code), (507, ErrorCode::NoSpace));
    assert_eq!(lab.host().await, before);
    lab.fake.set_available(1 << 40);
    assert_eq!(lab.run(&engine, work).await.state, OperationState::Succeeded);
}

#[tokio::test]
async fn work_on_one_guest_is_done_in_turn() {
    let lab = Lab::new();
    let engine = lab.engine();
    lab.prepare(&engine, "start").await;
    let nic = || serde_json::json!({"kind": "nic", "device": "net-br-ext"});
    let mut asked = Vec::new();
    for _ in 0..20 {
        let work = lab.work(serde_json::json!({"verb": "attach", "attachment": nic()}));
        let request = OperationRequest { id: OperationId::new(), work };
        asked.push(engine.submit(request).await.unwrap().id);
    }
    for id in asked {
        assert_eq!(lab.ended(&engine, id).await.state, OperationState::Succeeded);
    }
    // Each plan saw what the one before it had done: no address is forgotten.
    assert_eq!(Seeds::shared().of(lab.vm).unwrap().record.macs.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_says_the_address_that_the_seed_gives() {
    let lab = Lab::new();
    let engine = lab.engine();
    let work = lab.prepare(&engine, "write another seed").await;
    assert!(!lab.host().await.contains("10.0.0.9"));
    assert_eq!(lab.run(&engine, work).await.state, OperationState::Succeeded);
    let host = lab.host().await;
    assert!(host.contains("ipaddr: \"10.0.0.9/24\""), "{host}");
    assert!(host.contains("gateway: \"10.0.0.1\""), "{host}");
    let dynamic = serde_json::json!({"verb": "reseed", "seed": {"hostname": "web3"}});
    assert_eq!(lab.run(&engine, lab.work(dynamic)).await.state, OperationState::Succeeded);
    assert!(lab.host().await.contains("ipaddr: \"\""));
}
