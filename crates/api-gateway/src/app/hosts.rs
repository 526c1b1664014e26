//! Hosts: registering an agent, and what is known of it.

use std::sync::PoisonError;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vmmgr_common::api::host::HostInfo;
use vmmgr_common::client::AgentClient;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::HostId;
use vmmgr_common::text::check_line;

use super::{App, no_such_host};
use crate::fleet::HostState;
use crate::store::{Table, failed, from_text, to_text};

/// A registered host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HostRecord {
    /// Its name; also in its agent's certificate.
    pub(crate) name: HostId,
    /// `https://address:port` of its agent.
    pub(crate) url: String,
    /// For people.
    #[serde(default)]
    pub(crate) description: String,
    /// What the agent said when it was registered.
    #[serde(default)]
    pub(crate) info: Option<HostInfo>,
    /// RFC 3339, UTC.
    #[serde(default)]
    pub(crate) modified: String,
}

/// A host as it is shown.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct HostStatus {
    /// The record.
    #[serde(flatten)]
    pub(crate) record: HostRecord,
    /// How it is.
    pub(crate) state: HostState,
    /// Why it is not reachable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// Seconds since it was last heard.
    pub(crate) age_seconds: u64,
    /// Guests that run.
    pub(crate) active: usize,
    /// Guests that do not.
    pub(crate) inactive: usize,
}

impl App {
    fn client(&self, record: &HostRecord) -> Result<AgentClient, Problem> {
        AgentClient::new(&self.tls, &record.url, &record.name).map_err(|error| {
            Problem::new(
                ErrorCode::InvalidValue,
                format!("url: {}", vmmgr_common::error::Chain(&error)),
            )
        })
    }

    fn connect(&self, record: &HostRecord, agent: AgentClient) {
        self.agents
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(record.name.clone(), (record.url.clone(), agent.clone()));
        self.fleet.follow(record.name.clone(), agent);
    }

    fn disconnect(&self, host: &HostId) {
        self.agents.write().unwrap_or_else(PoisonError::into_inner).remove(host);
        self.fleet.forget(host);
    }

    /// Follows the hosts that the records have, and no others.
    pub(super) async fn read_hosts(&self) -> Result<(), Problem> {
        let _turn = self.hosts_turn.lock().await;
        let mut gone = self.agents.read().unwrap_or_else(PoisonError::into_inner).clone();
        for (_, text) in self.store.list(Table::Hosts).await? {
            let record: HostRecord = from_text(&text)?;
            match gone.remove(&record.name) {
                Some((url, _)) if url == record.url => {}
                _ => self.connect(&record, self.client(&record)?),
            }
        }
        gone.keys().for_each(|host| self.disconnect(host));
        Ok(())
    }

    /// Registers a host, after its agent has proved who it is.
    pub(crate) async fn add_host(&self, mut record: HostRecord) -> Result<HostStatus, Problem> {
        if self.store.get(Table::Hosts, record.name.as_str()).await?.is_some() {
            return Err(Problem::new(
                ErrorCode::AlreadyExists,
                format!("host `{}` is registered", record.name),
            ));
        }
        check_line("description", &record.description, 1000)?;
        check_line("url", &record.url, 2000)?;
        let agent = self.client(&record)?;
        record.info = Some(agent.host().await?);
        record.modified = super::operations::now();
        let name = record.name.to_string();
        let _turn = self.hosts_turn.lock().await;
        if !self.store.insert(Table::Hosts, &name, &to_text(&record)?).await? {
            return Err(Problem::new(
                ErrorCode::AlreadyExists,
                format!("host `{name}` is registered"),
            ));
        }
        self.connect(&record, agent);
        Ok(self.status(record))
    }

    /// Forgets a host. Its guests stay as they are.
    pub(crate) async fn remove_host(&self, host: &HostId) -> Result<(), Problem> {
        let _turn = self.hosts_turn.lock().await;
        if !self.store.delete(Table::Hosts, host.as_str()).await? {
            return Err(no_such_host(host));
        }
        self.disconnect(host);
        Ok(())
    }

    fn status(&self, record: HostRecord) -> HostStatus {
        let view = self.fleet.host(&record.name);
        let guests = || view.iter().flat_map(crate::fleet::HostView::guests);
        let active = guests().filter(|guest| super::vms::is_active(guest.domain.state)).count();
        HostStatus {
            state: view.as_ref().map_or(HostState::Connecting, |view| view.state),
            reason: view.as_ref().and_then(|view| view.reason.clone()),
            age_seconds: view.as_ref().map_or(0, crate::fleet::HostView::age_seconds),
            active,
            inactive: guests().count() - active,
            record,
        }
    }

    /// All hosts.
    pub(crate) async fn hosts(&self) -> Result<Vec<HostStatus>, Problem> {
        let mut hosts = Vec::new();
        for (_, text) in self.store.list(Table::Hosts).await? {
            hosts.push(self.status(from_text(&text)?));
        }
        Ok(hosts)
    }

    /// One host.
    pub(crate) async fn host(&self, host: &HostId) -> Result<HostStatus, Problem> {
        let text = self.store.get(Table::Hosts, host.as_str()).await?;
        Ok(self.status(from_text(&text.ok_or_else(|| no_such_host(host))?)?))
    }

    /// What the agent says of its host now, or said when it was registered.
    pub(crate) async fn host_info(&self, host: &HostId) -> Result<HostInfo, Problem> {
        match self.agent(host)?.host().await {
            Ok(info) => Ok(info),
            Err(problem) => match self.host(host).await?.record.info {
                Some(info) => Ok(info),
                None => Err(failed(problem)),
            },
        }
    }
}
