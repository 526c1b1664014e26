//! The public API through nginx, as a program outside sees it.

use std::time::Duration;

use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::lab::until;

pub(crate) const URL: &str = "https://localhost:8443";

/// A logged-in caller.
pub(crate) struct Api {
    pub(crate) runtime: Runtime,
    pub(crate) client: Client,
    pub(crate) token: String,
}

impl Api {
    /// Logs in as the first admin.
    pub(crate) fn login(ca: &[u8], password: &str) -> Self {
        let client = Client::builder()
            .no_proxy()
            .tls_certs_only([Certificate::from_pem(ca).unwrap()])
            .timeout(Duration::from_secs(120))
            .build()
            .unwrap();
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut api = Self { runtime, client, token: String::new() };
        let body = json!({"username": "admin", "password": password});
        let (status, session) = api.post("/v1/session", &body);
        assert_eq!(status, 200, "{session}");
        api.token = session["token"].as_str().unwrap().to_owned();
        api
    }

    /// Status and JSON of the answer; null when there is none.
    pub(crate) fn call(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<&str>,
    ) -> (u16, Value) {
        let method: Method = method.parse().unwrap();
        let mut request = self.client.request(method, format!("{URL}{path}"));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or(Value::Null))
        })
    }

    /// Bytes of an answer that must be good, and one header of it.
    pub(crate) fn bytes(&self, path: &str, header: &str) -> (String, Vec<u8>) {
        let request = self.client.get(format!("{URL}{path}")).bearer_auth(&self.token);
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200, "{path}");
            let value = answer.headers().get(header).and_then(|value| value.to_str().ok());
            let value = value.unwrap_or_default().to_owned();
            (value, answer.bytes().await.unwrap().to_vec())
        })
    }

    /// As [`Self::call`], and one header of the answer.
    pub(crate) fn call_for(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
        header: &str,
    ) -> (u16, String, Value) {
        let method: Method = method.parse().unwrap();
        let request = self.client.request(method, format!("{URL}{path}")).bearer_auth(&self.token);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        self.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let value = answer.headers().get(header).and_then(|value| value.to_str().ok());
            let (status, value) = (answer.status().as_u16(), value.unwrap_or_default().to_owned());
            let body = serde_json::from_slice(&answer.bytes().await.unwrap());
            (status, value, body.unwrap_or(Value::Null))
        })
    }

    pub(crate) fn get(&self, path: &str) -> (u16, Value) {
        self.call(&self.token, "GET", path, None)
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call(&self.token, "POST", path, Some(&body.to_string()))
    }

    /// Asks for a change and waits for its end: the finished operation, or the problem it failed with.
    pub(crate) fn change(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Value> {
        let text = body.map(Value::to_string);
        let (status, mut operation) =
            self.call(&self.token, method, &format!("{path}?wait_ms=30000"), text.as_deref());
        if status >= 400 {
            return Err(operation);
        }
        let id = operation["id"].as_str().unwrap().to_owned();
        until(&format!("the end of {method} {path}"), Duration::from_secs(300), || {
            match operation["state"].as_str().unwrap() {
                "succeeded" | "failed" => Ok(()),
                state => {
                    let seen = Err(state.to_owned());
                    operation = self.get(&format!("/v1/operations/{id}")).1;
                    seen
                }
            }
        });
        if operation["state"] == "succeeded" {
            Ok(operation)
        } else {
            Err(operation["problem"].clone())
        }
    }
}
