//! HTTP towards the public API.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::Value;
use vmmgr_common::api::console::OFFSET_HEADER;
use vmmgr_common::api::operation::{Operation, OperationEvent, OperationState};
use vmmgr_common::client::ServerEvents;
use vmmgr_common::error::Problem;
use vmmgr_common::secret::Secret;

use crate::Server;
use crate::failure::{Failure, odd_answer};

/// Held by the gateway until a change is done, milliseconds; then the events are followed.
const WAIT_MS: u32 = 1000;

/// The API.
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<Secret<String>>,
}

impl Client {
    /// Reads the CA and the token; asks nothing yet.
    pub(crate) fn new(server: &Server) -> Result<Self, Failure> {
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(5))
            .read_timeout(Duration::from_secs(90));
        if let Some(ca) = &server.ca {
            let pem = fs_err::read(ca).map_err(Failure::local)?;
            let root = reqwest::Certificate::from_pem(&pem).map_err(Failure::local)?;
            builder = builder.tls_certs_only([root]);
        }
        let token = match &server.token_file {
            Some(path) => Some(fs_err::read_to_string(path).map_err(Failure::local)?),
            None => std::env::var("VMMGR_TOKEN").ok(),
        };
        Ok(Self {
            http: builder.build().map_err(Failure::local)?,
            base: server.server.trim_end_matches('/').to_owned(),
            token: token
                .map(|text| Secret::new(text.trim().to_owned()))
                .filter(|t| !t.expose().is_empty()),
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<reqwest::Response, Failure> {
        let mut request = self.http.request(method, self.url(path));
        if let Some(body) = body {
            request = request.json(body);
        }
        self.answered(request).await
    }

    async fn answered(
        &self,
        mut request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, Failure> {
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        let response = request.send().await.map_err(|error| {
            Failure::Unreachable(vmmgr_common::error::Chain(&error).to_string())
        })?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refusal(response).await)
    }

    /// A stream of events that goes on after the event `last`, if it is not empty. It says every
    /// 15 s that it lives.
    pub(crate) async fn stream(
        &self,
        path: &str,
        last: &str,
    ) -> Result<reqwest::Response, Failure> {
        let mut request = self.http.get(self.url(path)).header("accept", "text/event-stream");
        if !last.is_empty() {
            request = request.header("last-event-id", last);
        }
        self.answered(request).await
    }

    /// A page of the public site.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// A `GET` without the caller's token, for what has a credential of its own.
    pub(crate) fn get_request(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(self.url(path))
    }

    /// Sends a request that leaves HTTP.
    pub(crate) async fn switch(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, Failure> {
        let response = request.send().await.map_err(|error| {
            Failure::Unreachable(vmmgr_common::error::Chain(&error).to_string())
        })?;
        match response.status() {
            reqwest::StatusCode::SWITCHING_PROTOCOLS => Ok(response),
            _ => Err(refusal(response).await),
        }
    }

    /// The body of a `GET`.
    pub(crate) async fn bytes(&self, path: &str) -> Result<Bytes, Failure> {
        let response = self.send(Method::GET, path, None).await?;
        response.bytes().await.map_err(|error| Failure::Unreachable(error.to_string()))
    }

    /// The body of a `GET`, and the offset of a serial line that it begins at.
    pub(crate) async fn bytes_at(&self, path: &str) -> Result<(u64, Bytes), Failure> {
        let response = self.send(Method::GET, path, None).await?;
        let named = response.headers().get(OFFSET_HEADER);
        let offset = named.and_then(|value| value.to_str().ok()?.parse().ok());
        let offset = offset.ok_or_else(|| odd_answer(200, "no offset"))?;
        let data = response.bytes().await;
        Ok((offset, data.map_err(|error| Failure::Unreachable(error.to_string()))?))
    }

    /// The body of a `GET` as text.
    pub(crate) async fn text(&self, path: &str) -> Result<String, Failure> {
        let response = self.send(Method::GET, path, None).await?;
        response.text().await.map_err(|error| Failure::Unreachable(error.to_string()))
    }

    /// A `GET`.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        let text = self.text(path).await?;
        serde_json::from_str(&text).map_err(|_| odd_answer(200, &text))
    }

    /// A `POST` or `DELETE`; null where the answer has no body.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let response = self.send(method, path, body).await?;
        let text =
            response.text().await.map_err(|error| Failure::Unreachable(error.to_string()))?;
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|_| odd_answer(200, &text))
    }

    /// Asks for a change and follows it to its end, progress on standard error.
    pub(crate) async fn change(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Operation, Failure> {
        let join = if path.contains('?') { '&' } else { '?' };
        let answer = self.call(method, &format!("{path}{join}wait_ms={WAIT_MS}"), body).await?;
        let operation: Operation = serde_json::from_value(answer).map_err(Failure::local)?;
        if operation.state.is_final() {
            return ended(operation);
        }
        self.follow(&operation.id.to_string()).await
    }

    /// Follows an operation to its end.
    pub(crate) async fn follow(&self, id: &str) -> Result<Operation, Failure> {
        let started = Instant::now();
        let path = format!("/v1/operations/{id}/events");
        let mut body = self.stream(&path, "").await?.bytes_stream();
        let mut events = ServerEvents::default();
        while let Some(bytes) = body.next().await {
            // A stream that breaks says nothing of the operation.
            let Ok(bytes) = bytes else { break };
            for event in events.push(&bytes).map_err(Failure::local)? {
                match serde_json::from_str(&event.data).map_err(Failure::local)? {
                    OperationEvent::Progress { line } => {
                        eprintln!("  [{:>3} s] {line}", started.elapsed().as_secs());
                    }
                    OperationEvent::Done { operation } => return ended(*operation),
                }
            }
        }
        // The stream broke; the operation did not.
        let answer = self.get(&format!("/v1/operations/{id}")).await?;
        ended(serde_json::from_value(answer).map_err(Failure::local)?)
    }
}

/// Why the server did not do it.
async fn refusal(response: reqwest::Response) -> Failure {
    let status = response.status().as_u16();
    match response.text().await {
        Ok(text) => serde_json::from_str::<Problem>(&text)
            .map_or_else(|_| odd_answer(status, &text), Failure::from),
        Err(error) => Failure::Unreachable(error.to_string()),
    }
}

fn ended(operation: Operation) -> Result<Operation, Failure> {
    match (&operation.problem, operation.state) {
        (Some(problem), _) => Err(problem.clone().into()),
        (None, OperationState::Succeeded) => Ok(operation),
        (None, _) => Err(Failure::Timeout(format!(
            "operation {} goes on; `vmmctl op watch` follows it",
            operation.id
        ))),
    }
}
