//! CD-ROMs that QEMU reads from a web server.

use serde_json::{Value, json};
use vmmgr_common::api::operation::{OperationState, Work};
use vmmgr_common::error::ErrorCode;

use super::lab::Lab;
use crate::hypervisor::Hypervisor as _;
use crate::storage::remote_iso::tests::Server;

fn network(name: &str) -> Value {
    json!({"kind": "network", "url": Server::shared().url(name)})
}

fn change(lab: &Lab, medium: &Value) -> Work {
    lab.work(json!({"verb": "change_medium", "device": "sda", "medium": medium}))
}

#[tokio::test]
async fn a_medium_comes_goes_and_changes_places_with_the_seed() {
    let lab = Lab::new();
    let engine = lab.engine();
    let work = lab.prepare(&engine, "attach a network drive").await;
    let source = async || {
        let xml = lab.fake.definition(lab.vm, false).await.unwrap();
        let found = crate::domain::target::find_device(&xml, "sda").unwrap();
        found.xml.contains("type='network'").then_some(found.source)
    };
    assert_eq!(lab.run(&engine, work).await.state, OperationState::Succeeded);
    assert_eq!(source().await.as_deref(), Some("good.iso"));
    for (medium, expected) in [
        (network("better"), Some("better.iso")),
        (json!({"kind": "empty"}), None),
        (network("good"), Some("good.iso")),
        (json!({"kind": "seed"}), None),
        (network("better"), Some("better.iso")),
    ] {
        let done = lab.run(&engine, change(&lab, &medium)).await;
        assert_eq!(done.state, OperationState::Succeeded, "{done:?}");
        assert_eq!(source().await.as_deref(), expected, "{medium}");
        // No seed is left where none is in the drive.
        lab.host().await;
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_the_drive_as_it_was() {
    let lab = Lab::new();
    let engine = lab.engine();
    let work = lab.prepare(&engine, "attach a network drive").await;
    assert_eq!(lab.run(&engine, work).await.state, OperationState::Succeeded);
    let before = lab.host().await;
    let foreign = json!({"kind": "network", "url": "https://other.test/x.iso"});
    for (medium, code) in [
        (network("seed"), ErrorCode::InvalidValue),
        (network("moved"), ErrorCode::OriginFailed),
        (network("whole"), ErrorCode::OriginFailed),
        (foreign, ErrorCode::InvalidValue),
    ] {
        let problem = lab.run(&engine, change(&lab, &medium)).await.problem.unwrap();
        assert_eq!(problem.code, code, "{problem}");
        assert_eq!(lab.host().await, before);
    }
}

/// A drive of somebody else holds what we would not put into one: it is kept to the letter.
#[tokio::test]
async fn a_foreign_medium_is_put_back_as_it_was() {
    let lab = Lab::new();
    let engine = lab.engine();
    lab.prepare(&engine, "start").await;
    let foreign = "<disk type='network' device='cdrom'><driver name='qemu' type='raw'/>\
                   <source protocol='https' name='x.iso' query='a=b'><host name='h'/></source>\
                   <target dev='sda' bus='sata'/></disk>";
    lab.fake.beside("definition", foreign);
    lab.fake.definition(lab.vm, false).await.unwrap();
    let before = lab.fake.definition(lab.vm, false).await.unwrap();
    let injected = crate::hypervisor::HypervisorError::Failed { code: 1, message: "no".into() };
    lab.fake.failing_after("update", injected);
    let done = lab.run(&engine, change(&lab, &json!({"kind": "empty"}))).await;
    assert_eq!(done.state, OperationState::Failed);
    assert_eq!(lab.fake.definition(lab.vm, false).await.unwrap(), before);
}
