//! The step that tells a device's hook that the device comes or has gone.

use serde::{Deserialize, Serialize};
use vmmgr_common::error::{ErrorCode, Problem};

use super::Context;
use crate::hooks::{Action, Hooked};

/// A run of a hook. Its undo runs it for the opposite: hooks are written so that twice is as once,
/// and that `detach` takes back what half an `attach` has left.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RunHook {
    /// The device, and what the hook is told of it.
    pub(crate) hooked: Hooked,
    /// What for.
    pub(crate) action: Action,
}

impl RunHook {
    /// One line for people.
    pub(super) fn line(&self) -> String {
        let Hooked { hook, device, .. } = &self.hooked;
        format!("running the hook {hook}: {} {device}", self.action.as_str())
    }

    /// True if the hook was never started.
    pub(super) fn left_untouched(problem: &Problem) -> bool {
        problem.code == ErrorCode::HookRefused
    }

    pub(super) async fn run(
        &self,
        context: &Context,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), Problem> {
        run(context, &self.hooked, self.action, progress).await
    }

    pub(super) async fn undo(
        &self,
        context: &Context,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), Problem> {
        run(context, &self.hooked, self.action.opposite(), progress).await
    }
}

/// The journal knows of a hooked device from before its `attach` until after its `detach`.
async fn run(
    context: &Context,
    hooked: &Hooked,
    action: Action,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<(), Problem> {
    let told = |line: String| progress(format!("{}: {line}", hooked.hook));
    match action {
        Action::Attach => {
            context.hooks.check(&hooked.hook)?;
            context.journal.keep_hooked(hooked).await?;
            context.hooks.run(&context.host, hooked, action, &told).await
        }
        Action::Detach => {
            context.hooks.run(&context.host, hooked, action, &told).await?;
            context.journal.forget_hooked(hooked).await
        }
    }
}
