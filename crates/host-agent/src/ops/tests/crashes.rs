//! The agent dies before and after every write of its journal, and starts again.

use vmmgr_common::api::operation::{OperationRequest, OperationState, Work};
use vmmgr_common::error::ErrorCode;
use vmmgr_common::ids::OperationId;

use super::lab::{CASES, Lab};
use super::seeds::Seeds;
use crate::ops::Engine;

/// How an operation went on through a death.
enum Seen {
    /// It ended before the point.
    Over,
    /// It was never accepted.
    Unknown,
    Ended(OperationState),
}

/// Dies at the `point`th point of the work, starts again, and waits for the operation's end.
async fn through_a_crash(lab: &Lab, engine: &Engine, work: Work, point: usize) -> Seen {
    let crash = engine.context().journal.crash.clone();
    crash.arm(point);
    let id = OperationId::new();
    let asked = {
        let (engine, work) = (engine.clone(), work.clone());
        tokio::spawn(async move {
            let accepted = engine.submit(OperationRequest { id, work }).await.unwrap();
            engine.wait(accepted.id, std::time::Duration::from_secs(60)).await.unwrap()
        })
    };
    tokio::select! {
        () = crash.reached.notified() => {}
        ended = asked => {
            assert!(ended.unwrap().state.is_final());
            return Seen::Over;
        }
    }
    let engine = lab.engine();
    engine.resume().await.unwrap();
    let ended = match engine.operation(id).await {
        Err(problem) if problem.code == ErrorCode::NoSuchOperation => return Seen::Unknown,
        known => lab.ended(&engine, known.unwrap().id).await,
    };
    // One end: the same for whoever asks, and nothing left to do for the next start.
    let journal = &engine.context().journal;
    assert!(journal.unfinished().await.unwrap().is_empty());
    assert_eq!(journal.get(id).await.unwrap().unwrap().operation, ended);
    let request = OperationRequest { id, work };
    assert_eq!(engine.submit(request).await.unwrap(), ended);
    Seen::Ended(ended.state)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_anywhere_goes_on_and_ends_once() {
    for case in CASES {
        let lab = Lab::new();
        let engine = lab.engine();
        let work = lab.prepare(&engine, case).await;
        assert_eq!(lab.run(&engine, work).await.state, OperationState::Succeeded);
        let goal = lab.host().await;
        let mut points = 0;
        loop {
            let lab = Lab::new();
            let engine = lab.engine();
            let work = lab.prepare(&engine, case).await;
            let before = lab.host().await;
            let seen = through_a_crash(&lab, &engine, work, points).await;
            let host = lab.host().await;
            match seen {
                Seen::Over => break,
                Seen::Unknown => assert_eq!(host, before, "{case}, point {points}"),
                Seen::Ended(state) => {
                    assert_eq!(state, OperationState::Succeeded, "{case}, point {points}");
                    assert_eq!(host, goal, "{case}, point {points}");
                }
            }
            points += 1;
        }
        // Accepted, one step begun, ended: each has a point before and one after it.
        assert!(points >= 6, "{case} has {points} points");
    }
}

/// The last step fails for good, and the agent dies while it takes the others back.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_dies_while_it_undoes_goes_on_undoing() {
    for (case, call) in [("create with an ISO", "commit"), ("detach a NIC", "callers")] {
        let mut points = 0;
        let mut undone = 0;
        loop {
            let lab = Lab::new();
            let engine = lab.engine();
            let work = lab.prepare(&engine, case).await;
            let before = lab.host().await;
            Seeds::shared().failing(lab.vm, call, true, ErrorCode::Internal);
            let seen = through_a_crash(&lab, &engine, work, points).await;
            let host = lab.host().await;
            match seen {
                Seen::Over => break,
                Seen::Unknown => assert_eq!(host, before, "{case}, point {points}"),
                Seen::Ended(OperationState::Failed) => {
                    assert_eq!(host, before, "{case}, point {points}");
                    undone += 1;
                }
                // It died before it knew of the failure, which happens only once.
                Seen::Ended(state) => assert_eq!(state, OperationState::Succeeded),
            }
            points += 1;
        }
        assert!(undone >= 6, "{case}: {undone} of {points}");
    }
}
