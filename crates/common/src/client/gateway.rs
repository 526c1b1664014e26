//! Client of api-gateway's internal side.

use std::time::Duration;

use futures_util::Stream;
use reqwest::Method;

use super::http::{ClientError, Peer};
use crate::api::console::{
    ConsoleEvent, ConsoleGrant, ConsoleRedeem, ConsoleReport, ConsoleVerdict,
};
use crate::error::{ErrorCode, Problem};
use crate::mtls::{Identity, Role, TlsFiles};

/// It answers from memory and one write to its store.
const DEADLINE: Duration = Duration::from_secs(5);

/// A gateway.
#[derive(Debug, Clone)]
pub struct GatewayClient {
    peer: Peer,
}

impl GatewayClient {
    /// A client of the gateway at `base_url` whose certificate must name the instance `name`.
    pub fn new(files: &TlsFiles, base_url: &str, name: &str) -> Result<Self, ClientError> {
        let identity = Identity { role: Role::Gateway, instance: name.to_owned() };
        let peer = Peer::new(files, base_url, identity, ErrorCode::StoreUnavailable)?;
        Ok(Self { peer })
    }

    /// Uses a ticket up. Never repeated: an answer that was lost is a ticket that is lost.
    pub async fn redeem(&self, ticket: &ConsoleRedeem) -> Result<ConsoleGrant, Problem> {
        let path = "/internal/console/redeem";
        let text = self.peer.call(Method::POST, path, Some(ticket), DEADLINE).await?;
        self.peer.read(&text)
    }

    /// Tells which sessions there are; the answer names those that must end.
    pub async fn report(&self, report: &ConsoleReport) -> Result<ConsoleVerdict, Problem> {
        let path = "/internal/console/sessions";
        let text = self.peer.call(Method::POST, path, Some(report), DEADLINE).await?;
        self.peer.read(&text)
    }

    /// What cannot wait for the next report. Ends after the first error.
    pub async fn console_events(
        &self,
    ) -> Result<impl Stream<Item = Result<ConsoleEvent, Problem>> + Send + use<>, Problem> {
        self.peer.lines("/internal/console/events").await
    }
}
