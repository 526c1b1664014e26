//! What the end of an operation means for the gateway's own records.

use vmmgr_common::api::operation::OperationState;
use vmmgr_common::error::Problem;

use super::App;
use super::operations::OperationRecord;

impl App {
    /// Called once an operation's end is on disk, perhaps again after a restart: doing it twice
    /// changes nothing. A guest is gone only when its host has said so.
    pub(super) async fn settled(&self, record: &OperationRecord) -> Result<(), Problem> {
        let operation = &record.operation;
        match (operation.verb.as_str(), operation.state, operation.vm) {
            ("delete", OperationState::Succeeded, Some(vm)) => {
                self.drop_links(&record.host, vm).await?;
                self.release(|reserved| reserved.vm == vm).await
            }
            ("create", OperationState::Failed, _) => {
                self.release(|reserved| reserved.operation == operation.id).await
            }
            _ => Ok(()),
        }
    }
}
