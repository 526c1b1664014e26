//! Device hooks: an operator's own program that runs when a device comes and when it goes.
//!
//! ```text
//!  [device_hooks] directory/      root's, nobody else may write to it or to a folder above it
//!      fabric                     the hook `fabric`: HOOK attach|detach HOST GUEST DEVICE
//!      fabric.vars.json           variables that it takes beside those of the device's template
//! ```
//!
//! Which file runs is decided by the host's configuration alone. What callers say reaches the hook as
//! JSON on its standard input, never as an argument, in the environment or through a shell.

mod lines;
mod place;
mod process;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, ResourceName, VmId};

use crate::config::{DeviceConfig, DeviceHooks};
use crate::domain::variables::{self, Variables};

/// Who hooks must belong to: root.
const OWNER: u32 = 0;

/// A device that has a hook: kept as long as the device is there, so that it can be told to go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hooked {
    /// The guest.
    pub(crate) vm: VmId,
    /// Target of a disk or drive, address of an interface.
    pub(crate) device: String,
    /// Name of the hook.
    pub(crate) hook: ResourceName,
    /// What it is told on its standard input, `action` aside.
    pub(crate) request: Map<String, Value>,
}

/// What a hook is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// The device comes.
    Attach,
    /// The device has gone, or did not come after all.
    Detach,
}

impl Action {
    /// As the hook is told.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Detach => "detach",
        }
    }

    /// What takes it back.
    pub(crate) const fn opposite(self) -> Self {
        match self {
            Self::Attach => Self::Detach,
            Self::Detach => Self::Attach,
        }
    }
}

/// The hooks of this host.
pub(crate) struct Hooks {
    config: Option<DeviceHooks>,
    owner: u32,
    variables: BTreeMap<ResourceName, Variables>,
    problems: Vec<String>,
}

fn refuse(name: &ResourceName, why: &str) -> Problem {
    Problem::new(ErrorCode::HookRefused, format!("device hook `{name}`: {why}"))
}

impl Hooks {
    /// Looks at the hooks that `devices` name. One that is not fit is refused when it is asked for;
    /// until then the log and the host's record name it.
    pub(crate) fn load(config: Option<DeviceHooks>, devices: &[DeviceConfig]) -> Self {
        Self::load_owned(OWNER, config, devices)
    }

    /// As [`Self::load`], with another owner than root.
    fn load_owned(owner: u32, config: Option<DeviceHooks>, devices: &[DeviceConfig]) -> Self {
        let (variables, problems) = (BTreeMap::new(), Vec::new());
        let mut all = Self { config, owner, variables, problems };
        for name in devices.iter().filter_map(DeviceConfig::hook) {
            let looked_at = all.check(name).map_err(|problem| problem.detail);
            match looked_at.and_then(|path| all.read_variables(name, path)) {
                Ok(declared) => drop(all.variables.insert(name.clone(), declared)),
                Err(why) => all.problems.push(why),
            }
        }
        for problem in &all.problems {
            tracing::error!(problem, "a device hook is refused");
        }
        all
    }

    /// Hooks of a test: their files belong to whoever runs it.
    #[cfg(test)]
    pub(crate) fn of_test(config: Option<DeviceHooks>, devices: &[DeviceConfig]) -> Self {
        Self::load_owned(rustix::process::getuid().as_raw(), config, devices)
    }

    fn read_variables(&self, name: &ResourceName, hook: PathBuf) -> Result<Variables, String> {
        let path = hook.with_file_name(format!("{name}.vars.json"));
        if !path.exists() {
            return Ok(Variables::new());
        }
        place::check_file(&path, self.owner)
            .and_then(|_| fs_err::read_to_string(&path).map_err(|error| error.to_string()))
            .and_then(|text| variables::read(&text))
            .map_err(|why| format!("device hook `{name}`: {}: {why}", path.display()))
    }

    /// The hook's file, if it may be run.
    pub(crate) fn check(&self, name: &ResourceName) -> Result<PathBuf, Problem> {
        let Some(config) = &self.config else {
            return Err(refuse(name, "this host runs no hooks")
                .hint("set [device_hooks] in the agent's configuration"));
        };
        let path = config.directory.join(name.as_str());
        let runs = place::check_folder(&config.directory, self.owner)
            .and_then(|()| place::check_file(&path, self.owner))
            .and_then(|mode| {
                let executable = mode & 0o111 != 0;
                if executable {
                    Ok(())
                } else {
                    Err(format!("{} is not executable", path.display()))
                }
            });
        runs.map(|()| path).map_err(|why| {
            refuse(name, &why).hint(
                "hooks are executable files of root in a folder of root that nobody else may \
                 write to; for a device whose hook is gone for good put one there that only ends \
                 with status 0",
            )
        })
    }

    /// Variables that the hook takes beside those of the device's template.
    pub(crate) fn variables(&self, name: &ResourceName) -> Variables {
        self.variables.get(name).cloned().unwrap_or_default()
    }

    /// Hooks that cannot be run, and why.
    pub(crate) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Runs the hook to its end; what it says are lines of `progress`.
    pub(crate) async fn run(
        &self,
        host: &HostId,
        hooked: &Hooked,
        action: Action,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), Problem> {
        let Hooked { vm, device, hook, request } = hooked;
        let path = self.check(hook)?;
        let within = self.config.as_ref().map_or(Duration::ZERO, DeviceHooks::timeout);
        let mut told = request.clone();
        told.insert("action".to_owned(), json!(action.as_str()));
        let call = process::Call {
            arguments: &[action.as_str(), host.as_str(), &vm.to_string(), device],
            path: &path,
            input: Value::Object(told).to_string(),
            within,
        };
        process::run(call, progress).await.map_err(|failure| {
            let what = format!("device hook `{hook}`, {} of {device}", action.as_str());
            Problem::new(ErrorCode::HookFailed, format!("{what} of guest {vm}: {failure}"))
                .hint("the operation's lines have what the hook said; it runs as the agent's user")
        })
    }
}
