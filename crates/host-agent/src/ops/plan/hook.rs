//! What plans know of devices that have a hook.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use vmmgr_common::error::Problem;
use vmmgr_common::ids::{ResourceName, VmId};

use super::{Context, Guest, Step};
use crate::config::DeviceConfig;
use crate::domain::variables::{self, Variables};
use crate::hooks::{Action, Hooked};
use crate::ops::step::RunHook;

/// Values of a request for a device, parted: those of its template, and those that its hook is told.
pub(super) struct Values {
    /// For the device's template; what it does not declare is refused there.
    pub(super) template: BTreeMap<String, String>,
    /// For the hook: what its own and the template's variables are.
    told: BTreeMap<String, String>,
}

/// Variables that requests for the device may set: its template's and its hook's.
pub(crate) fn declared(context: &Context, device: &DeviceConfig) -> Variables {
    let mut all = device.hook().map(|name| context.hooks.variables(name)).unwrap_or_default();
    all.extend(template_variables(context, device));
    all
}

fn template_variables(context: &Context, device: &DeviceConfig) -> Variables {
    device.template().map(|name| context.templates.device_variables(name)).unwrap_or_default()
}

/// Parts the values of a request.
pub(super) fn values(
    context: &Context,
    device: &DeviceConfig,
    given: &BTreeMap<String, String>,
) -> Result<Values, Problem> {
    let Some(hook) = device.hook() else {
        return Ok(Values { template: given.clone(), told: BTreeMap::new() });
    };
    context.hooks.check(hook)?;
    let told = variables::settle(&declared(context, device), given)?;
    let its_own = template_variables(context, device);
    let template = given.iter().filter(|(name, _)| its_own.contains_key(*name));
    let template = template.map(|(name, value)| (name.clone(), value.clone())).collect();
    Ok(Values { template, told })
}

/// The hook of a new device, as the plan's steps; `facts` say what the device is.
pub(super) async fn attaching(
    context: &Context,
    (vm, guest): (VmId, &Guest),
    (device, target): (&DeviceConfig, &str),
    values: &Values,
    facts: Value,
) -> Result<Vec<Step>, Problem> {
    let mut steps = gone(context, vm, Some(target)).await?;
    let Some(hook) = device.hook() else { return Ok(steps) };
    let mut request = Map::new();
    for (key, value) in [
        ("host", json!(context.host)),
        ("vm", json!({"id": vm, "name": guest.name})),
        ("device", json!(device.name())),
        ("target", json!(target)),
        ("variables", json!(values.told)),
    ] {
        request.insert(key.to_owned(), value);
    }
    if let Value::Object(facts) = facts {
        request.extend(facts);
    }
    steps.push(step(vm, target, hook, request));
    Ok(steps)
}

fn step(vm: VmId, device: &str, hook: &ResourceName, request: Map<String, Value>) -> Step {
    let hooked = Hooked { vm, device: device.to_owned(), hook: hook.clone(), request };
    Step::Hook(RunHook { hooked, action: Action::Attach })
}

/// Steps that tell the hooks of the guest's device `of`, or of all of them, that it has gone. A hook
/// that cannot be run is refused here, before the device goes.
pub(super) async fn gone(
    context: &Context,
    vm: VmId,
    of: Option<&str>,
) -> Result<Vec<Step>, Problem> {
    let all = context.journal.hooked(vm).await?;
    let meant = all.into_iter().filter(|hooked| of.is_none_or(|device| hooked.device == device));
    let mut steps = Vec::new();
    for hooked in meant {
        context.hooks.check(&hooked.hook)?;
        steps.push(Step::Hook(RunHook { hooked, action: Action::Detach }));
    }
    Ok(steps)
}
