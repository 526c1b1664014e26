//! How much an account and an address may ask, so that one noisy caller leaves room for the others.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

use actix_web::HttpRequest;
use actix_web::dev::ServiceRequest;
use governor::{DefaultKeyedRateLimiter, Quota};
use serde::Deserialize;
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::mtls::Role;
use vmmgr_common::server::Peer;

/// Seconds' worth that may come at once.
const BURST_SECONDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);

/// `[limits]`, requests a second; three seconds' worth may come at once.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitConfig {
    /// Of one account or link, all its sessions and tokens together.
    #[serde(default = "thousand")]
    pub(crate) account_per_second: NonZeroU32,
    /// Of one address, as nginx sees it; an office may share one. Of IPv6 the first 64 bits.
    #[serde(default = "thousand")]
    pub(crate) address_per_second: NonZeroU32,
}

const fn thousand() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(999)
}

impl Default for LimitConfig {
    fn default() -> Self {
        Self { account_per_second: thousand(), address_per_second: thousand() }
    }
}

/// A bucket for each account and each address.
pub(crate) struct Limits {
    accounts: DefaultKeyedRateLimiter<String>,
    addresses: DefaultKeyedRateLimiter<IpAddr>,
}

impl Limits {
    /// Full buckets.
    pub(crate) fn new(config: &LimitConfig) -> Self {
        let quota = |each: NonZeroU32| {
            Quota::per_second(each).allow_burst(each.saturating_mul(BURST_SECONDS))
        };
        Self {
            accounts: DefaultKeyedRateLimiter::keyed(quota(config.account_per_second)),
            addresses: DefaultKeyedRateLimiter::keyed(quota(config.address_per_second)),
        }
    }

    /// A request of an account or a link.
    pub(crate) fn account(&self, name: &str) -> Result<(), Problem> {
        self.accounts.check_key(&name.to_owned()).map_err(|_| refused("account", name))
    }

    /// A request that nginx passes on; others come from our own services and operators.
    pub(crate) fn address(&self, request: &ServiceRequest) -> Result<(), Problem> {
        let Some(address) = address(request.request()) else { return Ok(()) };
        self.addresses
            .check_key(&network(address))
            .map_err(|_| refused("address", &address.to_string()))
    }

    /// Forgets full buckets.
    pub(crate) fn tidy(&self) {
        self.accounts.retain_recent();
        self.addresses.retain_recent();
    }
}

fn refused(what: &'static str, name: &str) -> Problem {
    metrics::counter!("vmmgr_rate_limited_total", "of" => what).increment(1);
    Problem::new(ErrorCode::RateLimited, format!("too many requests of {what} `{name}`")).hint(
        "wait as long as `Retry-After` says; [limits] of gateway.toml sets how many are allowed",
    )
}

/// Whose request nginx passes on: it sets the header to the one address that it sees.
fn address(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.conn_data::<Peer>()?;
    let header = request.headers().get("x-forwarded-for").filter(|_| peer.0.role == Role::Nginx)?;
    header.to_str().ok()?.parse().ok()
}

/// Who has one IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reqwest::Method;

    use super::*;
    use crate::auth::Role as AccountRole;
    use crate::fake::{Stack, read};
    use crate::store::Sqlite;

    fn few(account: u32, address: u32) -> Limits {
        let [account_per_second, address_per_second] =
            [account, address].map(|count| NonZeroU32::new(count).unwrap());
        Limits::new(&LimitConfig { account_per_second, address_per_second })
    }

    #[test]
    fn each_account_has_a_bucket_of_its_own() {
        let limits = few(2, 1);
        for _ in 0..6 {
            limits.account("noisy").unwrap();
        }
        let problem = limits.account("noisy").unwrap_err();
        assert_eq!((problem.code, problem.status), (ErrorCode::RateLimited, 429));
        limits.account("quiet").unwrap();
        limits.tidy();
        assert!(limits.account("noisy").is_err(), "an empty bucket is not forgotten");
    }

    #[test]
    fn an_ipv6_caller_is_its_network() {
        let one = network("2001:db8:1:2::7".parse().unwrap());
        assert_eq!(one, network("2001:db8:1:2:ffff::1".parse().unwrap()));
        assert_ne!(one, network("2001:db8:1:3::7".parse().unwrap()));
        assert_eq!(network("10.0.0.7".parse().unwrap()), "10.0.0.7".parse::<IpAddr>().unwrap());
    }

    #[actix_web::test]
    async fn a_noisy_caller_gets_429_and_the_others_their_answers() {
        let stack = Stack::limited(Arc::new(Sqlite::in_memory()), few(1000, 1)).await;
        let from = async |address: &str| {
            let request = stack.request(Method::GET, "/v1/version");
            let answer = request.header("x-forwarded-for", address).send().await.unwrap();
            let retry = answer.headers().get("retry-after").is_some();
            (read(answer).await.0, retry)
        };
        let mut told = Vec::new();
        while told.last() != Some(&(429, true)) {
            assert!(told.len() < 100, "{told:?}");
            told.push(from("192.0.2.7").await);
        }
        assert!(told.len() > 3 && told[0] == (200, false), "{told:?}");
        assert_eq!(from("192.0.2.8").await.0, 200);

        let stack = Stack::limited(Arc::new(Sqlite::in_memory()), few(1, 1000)).await;
        let (mut codes, path) = (Vec::new(), "/v1/hosts");
        while codes.last() != Some(&429) {
            assert!(codes.len() < 100, "{codes:?}");
            codes.push(stack.call(AccountRole::Viewer, Method::GET, path, None).await.0);
        }
        assert_eq!(codes[..3], [200, 200, 200]);
        assert_eq!(from_anybody(&stack).await, 200);
    }

    async fn from_anybody(stack: &Stack) -> u16 {
        read(stack.request(Method::GET, "/v1/version").send().await.unwrap()).await.0
    }
}
