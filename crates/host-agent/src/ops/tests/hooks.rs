//! Devices with a hook: what it is told, what callers see of it, and when it is refused.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use vmmgr_common::api::operation::{OperationRequest, OperationState, Work};
use vmmgr_common::error::ErrorCode;
use vmmgr_common::ids::OperationId;

use super::lab::Lab;
use crate::hypervisor::{Affect, Hypervisor as _};
use crate::ops::Engine;

const SUCCEEDED: OperationState = OperationState::Succeeded;

fn attach(lab: &Lab, variables: &Value) -> Work {
    let disk =
        json!({"kind": "disk", "device": "hooked-disk", "size": "1G", "variables": variables});
    lab.work(json!({"verb": "attach", "attachment": disk}))
}

fn set_mode(lab: &Lab, mode: u32) {
    let hook = lab.path("hooks/note");
    fs_err::set_permissions(hook, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Runs the work; gives its lines.
async fn lines(engine: &Engine, work: Work) -> Vec<String> {
    let id = OperationId::new();
    engine.submit(OperationRequest { id, work }).await.unwrap();
    let mut view = engine.watch(id).unwrap();
    view.wait_for(|view| view.operation.state.is_final()).await.unwrap().lines.clone()
}

#[tokio::test]
async fn a_hook_is_told_of_the_device_and_its_lines_are_the_operation_s() {
    let lab = Lab::new();
    fs_err::write(lab.path("hooks/note.vars.json"), r#"{"zone": {"help": "h", "default": "a"}}"#)
        .unwrap();
    let engine = lab.engine();
    lab.prepare(&engine, "start").await;
    let hostile = "$(reboot)\"},\n</x>";
    let said = lines(&engine, attach(&lab, &json!({"zone": hostile}))).await;
    let hook = "running the hook note: attach vda";
    assert!(said.windows(2).any(|two| two == [hook, "note: attach is done"]), "{said:?}");
    let told: Value = serde_json::from_str(&lab.hooked()["vda"]).unwrap();
    let path = lab.path("pool").to_string_lossy().into_owned();
    assert!(told["path"].as_str().unwrap().starts_with(&path), "{told}");
    let expected = json!({"action": "attach", "host": "host01", "vm": {"id": lab.vm, "name": format!("web1-{}", lab.vm)},
        "device": "hooked-disk", "kind": "disk", "target": "vda", "path": told["path"],
        "size_bytes": 1 << 30, "bus": "virtio", "format": "qcow2", "gold": null,
        "variables": {"zone": hostile}});
    assert_eq!(told, expected);
    let detach = lab.work(json!({"verb": "detach", "device": "vda"}));
    let said = lines(&engine, detach).await;
    assert!(said.contains(&"note: detach is done".to_owned()), "{said:?}");
    assert!(lab.hooked().is_empty());

    let odd = lab.run(&engine, attach(&lab, &json!({"shell": "x"}))).await;
    assert_eq!(odd.problem.unwrap().code, ErrorCode::InvalidValue);
    assert_eq!(lab.run(&engine, attach(&lab, &json!({}))).await.state, SUCCEEDED);
    assert!(lab.hooked()["vda"].contains(r#""variables":{"zone":"a"}"#));
}

#[tokio::test]
async fn a_hook_that_others_may_write_is_refused_before_anything_happens() {
    let lab = Lab::new();
    let engine = lab.engine();
    lab.prepare(&engine, "start").await;
    assert_eq!(lab.run(&engine, attach(&lab, &json!({}))).await.state, SUCCEEDED);
    let before = lab.host().await;
    set_mode(&lab, 0o777);
    let detach = lab.work(json!({"verb": "detach", "device": "vda"}));
    let delete = lab.work(json!({"verb": "delete"}));
    for work in [attach(&lab, &json!({})), detach, delete.clone()] {
        let problem = lab.run(&engine, work).await.problem.unwrap();
        assert_eq!(problem.code, ErrorCode::HookRefused, "{problem}");
        assert_eq!(lab.host().await, before);
    }
    set_mode(&lab, 0o755);
    assert_eq!(lab.run(&engine, delete).await.state, SUCCEEDED);
    assert!(lab.hooked().is_empty());
}

/// It is refused between the plan and its turn: it has not run, and is not run to be taken back.
#[tokio::test]
async fn a_hook_that_is_refused_in_its_turn_leaves_nothing_to_undo() {
    let lab = Lab::new();
    let engine = lab.engine();
    lab.prepare(&engine, "start").await;
    let before = lab.host().await;
    let (crash, id) = (engine.context().journal.crash.clone(), OperationId::new());
    // Accepted, and the plan's first step begun: the hook's turn comes after the next start.
    crash.arm(4);
    engine.submit(OperationRequest { id, work: attach(&lab, &json!({})) }).await.unwrap();
    crash.reached.notified().await;
    set_mode(&lab, 0o777);
    let engine = lab.engine();
    engine.resume().await.unwrap();
    let problem = lab.ended(&engine, id).await.problem.unwrap();
    assert_eq!(problem.code, ErrorCode::HookRefused);
    assert!(!problem.detail.contains("could not be undone"), "{problem}");
    assert_eq!(lab.host().await, before);
}

#[tokio::test]
async fn what_an_earlier_device_of_the_name_left_goes_first() {
    let lab = Lab::new();
    let engine = lab.engine();
    lab.prepare(&engine, "detach a disk with a hook").await;
    // Somebody takes the disk away without us.
    let theirs = "<disk type='file' device='disk'><target dev='vda' bus='virtio'/></disk>";
    lab.fake.detach(lab.vm, theirs, Affect { live: false, config: true }).await.unwrap();
    assert_eq!(lab.hooked().len(), 1);
    let disk = json!({"kind": "disk", "device": "local-disk", "size": "1G"});
    let work = lab.work(json!({"verb": "attach", "attachment": disk}));
    let ended = lab.run(&engine, work).await;
    assert_eq!((ended.state, ended.outcome.target.as_deref()), (SUCCEEDED, Some("vda")));
    assert!(lab.hooked().is_empty());
}
