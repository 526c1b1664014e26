//! Changes to a guest that exists.

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value};

use super::done;
use super::vm::Place;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::Format;

/// What to change; all of it is changed, or nothing.
#[derive(Args)]
pub(crate) struct Set {
    #[command(flatten)]
    place: Place,
    /// Virtual CPUs; above the guest's maximum from its next start on
    #[arg(long)]
    vcpus: Option<u32>,
    /// Memory in MiB; above the guest's maximum from its next start on
    #[arg(long)]
    memory: Option<u64>,
    /// For people
    #[arg(long)]
    description: Option<String>,
    /// Start it with the host
    #[arg(long)]
    autostart: Option<bool>,
    /// KEY=VALUE, or KEY= to remove the key; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    metadata: Vec<String>,
}

impl Set {
    fn body(&self) -> Result<Value, Failure> {
        let mut body = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            body.extend(value.map(|value| (key.to_owned(), value)));
        };
        put("vcpus", self.vcpus.map(Value::from));
        put("memory_mib", self.memory.map(Value::from));
        put("description", self.description.clone().map(Value::from));
        put("autostart", self.autostart.map(Value::from));
        let mut metadata = Map::new();
        for pair in &self.metadata {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                Failure::Usage(format!("`{}` is no KEY=VALUE", pair.escape_debug()))
            })?;
            let value = if value.is_empty() { Value::Null } else { value.into() };
            metadata.insert(key.to_owned(), value);
        }
        put("metadata", (!metadata.is_empty()).then_some(Value::Object(metadata)));
        if body.is_empty() {
            return Err(Failure::Usage("say what to change, such as --vcpus 2".to_owned()));
        }
        Ok(Value::Object(body))
    }

    pub(crate) async fn run(&self, client: &Client, format: Format) -> Result<(), Failure> {
        let body = self.body()?;
        let operation = client.change(Method::PATCH, &self.place.path()?, Some(&body)).await?;
        let vm = &self.place.vm;
        let said = if operation.outcome.restart_needed {
            format!("guest {vm} is changed; part of it takes effect at its next start")
        } else {
            format!("guest {vm} is changed")
        };
        done(format, &operation, vm, &said)
    }
}
