//! What happens in the fleet, as it happens.

use std::time::Duration;

use clap::{Args, ValueEnum};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use vmmgr_common::client::{ServerEvent, ServerEvents};

use super::part;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Format};

/// First pause before a stream that broke is opened again; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What events are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Topic {
    /// Guests
    Vm,
    /// Hosts
    Host,
    /// Operations and their progress
    Operation,
}

/// Follow what happens in the fleet, until it is interrupted.
#[derive(Args)]
pub(crate) struct Events {
    /// Only what happens on this host
    #[arg(long)]
    host: Option<String>,
    /// Only events about these, with commas between them
    #[arg(long, value_enum, value_delimiter = ',')]
    topics: Vec<Topic>,
}

impl Events {
    fn path(&self) -> Result<String, Failure> {
        let mut query = Vec::new();
        if let Some(host) = &self.host {
            query.push(format!("host={}", part(host)?));
        }
        let names: Vec<String> = self
            .topics
            .iter()
            .filter_map(|topic| Some(topic.to_possible_value()?.get_name().to_owned()))
            .collect();
        if !names.is_empty() {
            query.push(format!("topics={}", names.join(",")));
        }
        Ok(format!("/v1/events?{}", query.join("&")))
    }

    /// Ends with the reader of standard output, or when the server refuses.
    pub(crate) async fn run(self, client: &Client, format: Format) -> Result<(), Failure> {
        let path = self.path()?;
        let (mut last, mut pause) = (String::new(), FIRST_PAUSE);
        let mut opened = false;
        loop {
            match client.stream(&path, &last).await {
                Ok(response) => {
                    (opened, pause) = (true, FIRST_PAUSE);
                    if !follow(response, &mut last, format).await? {
                        return Ok(());
                    }
                }
                Err(failure) if !opened || failure.is_final() => return Err(failure),
                Err(_) => {}
            }
            eprintln!("the stream ended; it is opened again in {} ms", pause.as_millis());
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Prints what comes; false once nobody reads it.
async fn follow(
    response: reqwest::Response,
    last: &mut String,
    format: Format,
) -> Result<bool, Failure> {
    let (mut body, mut events) = (response.bytes_stream(), ServerEvents::default());
    // A stream that breaks is opened again.
    while let Some(Ok(bytes)) = body.next().await {
        for event in events.push(&bytes).map_err(Failure::local)? {
            if !print(&event, format)? {
                return Ok(false);
            }
        }
        if !events.last_id().is_empty() {
            events.last_id().clone_into(last);
        }
    }
    Ok(true)
}

fn print(event: &ServerEvent, format: Format) -> Result<bool, Failure> {
    let data: Value = serde_json::from_str(&event.data).map_err(Failure::local)?;
    if event.event == "resync" && format != Format::Json {
        if data["reason"] != "start" {
            eprintln!("events were missed; `vmmctl list` shows what there is now");
        }
        return Ok(true);
    }
    let text = match format {
        Format::Json => json!({"event": event.event, "id": event.id, "data": data}).to_string(),
        Format::Name => name(&data),
        Format::Table => row(&event.event, &data),
    };
    output::written(&text)
}

/// The guest, the operation or the host.
fn name(data: &Value) -> String {
    output::text(data.get("id").or_else(|| data.get("host")))
}

fn row(event: &str, data: &Value) -> String {
    let now = chrono::Local::now().format("%H:%M:%S");
    let columns: &[&str] = match event {
        "vm" => &["/id", "/state", "/name"],
        "vm_removed" => &["/id"],
        "host" => &["/state", "/reason"],
        "operation" => &["/id", "/verb", "/state", "/vm", "/problem/detail"],
        "operation_progress" => &["/id", "/line"],
        _ => &[],
    };
    let values = columns.iter().filter_map(|pointer| data.pointer(pointer));
    let values: Vec<String> = values.map(|value| output::text(Some(value))).collect();
    let host = output::text(data.get("host"));
    format!("{now}  {event:<18}  {host:<12}  {}", values.join("  ")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_what_people_look_for_and_controls_nothing() {
        let vm = json!({"host": "h1", "id": "u", "state": "running", "name": "web\u{1b}[2J"});
        let shown = row("vm", &vm);
        assert!(
            shown.ends_with("vm                  h1            u  running  web\\u{1b}[2J"),
            "{shown}"
        );
        let host = row("host", &json!({"host": "h1", "state": "unreachable", "reason": "refused"}));
        assert!(host.ends_with("h1            unreachable  refused"), "{host}");
        assert_eq!((name(&vm).as_str(), name(&json!({"host": "h1"})).as_str()), ("u", "h1"));
    }

    #[test]
    fn the_filters_go_to_the_server() {
        let events = |host: Option<&str>, topics| Events { host: host.map(str::to_owned), topics };
        assert_eq!(events(None, vec![]).path().unwrap(), "/v1/events?");
        let some = events(Some("h1"), vec![Topic::Vm, Topic::Operation]).path().unwrap();
        assert_eq!(some, "/v1/events?host=h1&topics=vm,operation");
        assert!(events(Some("h&x=1"), vec![]).path().is_err());
    }
}
