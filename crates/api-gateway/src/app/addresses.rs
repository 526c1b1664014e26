//! The pool of guests' addresses: ranges that an operator gave, and what is taken of them.
//!
//! ```text
//!  free --create accepted--> reserved --create failed or guest proven gone--> free
//! ```
//!
//! A reservation is a record that can be written once, under the id of the operation that needs it;
//! the operation is on disk before. What a known guest has in its own record is taken too, so that
//! a lost or restored store gives nothing away twice.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vmmgr_common::api::operation::{OperationRequest, Work};
use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::{HostId, OperationId, VmId};

use super::App;
use crate::store::{Table, from_text, to_text};

/// Largest range: a /16.
const LARGEST: u128 = 1 << 16;
/// Most ranges.
const MOST_RANGES: usize = 4096;

/// What an operator adds: a row of the seed's `ippool.json`, a network, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRange {
    /// `10.0.0.7/24` is that address; `10.0.0.0/24` is every host of that network but the gateway.
    #[schema(pattern = "^[0-9A-Fa-f.:]{2,45}/[0-9]{1,3}$", examples("10.0.0.0/24"))]
    pub(crate) cidr: String,
    /// Gateway of the network.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) gateway: Option<IpAddr>,
    /// First address of a part of the network.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) first: Option<IpAddr>,
    /// Last address of a part of the network.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(crate) last: Option<IpAddr>,
}

/// A range of the pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Range {
    /// First address.
    #[schema(value_type = String)]
    pub(crate) first: IpAddr,
    /// Last address.
    #[schema(value_type = String)]
    pub(crate) last: IpAddr,
    /// Prefix length that guests are given.
    pub(crate) prefix: u8,
    /// Gateway; never given away itself.
    #[schema(value_type = Option<String>)]
    pub(crate) gateway: Option<IpAddr>,
}

/// Who has an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reservation {
    /// Which.
    #[schema(value_type = String)]
    pub(crate) address: IpAddr,
    /// For which guest.
    pub(crate) vm: VmId,
    /// On which host.
    pub(crate) host: HostId,
    /// By which operation.
    pub(crate) operation: OperationId,
    /// RFC 3339, UTC.
    pub(crate) created: String,
}

/// A range as it is shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RangeStatus {
    /// Its name: the address, or `first-last`.
    pub(crate) id: String,
    #[serde(flatten)]
    pub(crate) range: Range,
    /// Addresses in it.
    pub(crate) total: u64,
    /// Those that are nobody's.
    pub(crate) free: u64,
    /// Those that operations have reserved.
    pub(crate) reserved: Vec<Reservation>,
}

fn refuse(field: &str, rule: impl std::fmt::Display) -> Problem {
    Problem::new(ErrorCode::InvalidValue, format!("{field}: {rule}"))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

impl NewRange {
    /// The range that is meant.
    pub(crate) fn parse(&self) -> Result<Range, Problem> {
        let shown = self.cidr.escape_debug();
        let net: IpNet = self
            .cidr
            .parse()
            .map_err(|_| refuse("cidr", format!("`{shown}` is no address with a prefix length")))?;
        let whole = net.addr() == net.network() && net.prefix_len() + 1 < net.max_prefix_len();
        let (first, last) = match (self.first, self.last) {
            (Some(first), Some(last)) => (first, last),
            (None, None) if whole => {
                let v4 = u128::from(net.addr().is_ipv4());
                let (low, high) = (number(net.network()) + 1, number(net.broadcast()) - v4);
                (like(net.addr(), low), like(net.addr(), high))
            }
            (None, None) => (net.addr(), net.addr()),
            _ => return Err(refuse("first", "`first` and `last` belong together")),
        };
        if !net.contains(&first) || !net.contains(&last) || number(first) > number(last) {
            return Err(refuse("first", format!("expected a range inside {}", net.trunc())));
        }
        if number(last) - number(first) >= LARGEST {
            return Err(refuse("cidr", format!("more than {LARGEST} addresses")));
        }
        // A /32 of the seed's rows has its gateway elsewhere, so nothing is said of where it is.
        if self.gateway.is_some_and(|gateway| gateway.is_ipv4() != first.is_ipv4()) {
            return Err(refuse("gateway", "is of the other address family"));
        }
        Ok(Range { first, last, prefix: net.prefix_len(), gateway: self.gateway })
    }
}

/// A number as an address of the same family.
fn like(family: IpAddr, number: u128) -> IpAddr {
    match family {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

impl Range {
    /// Its name.
    pub(crate) fn id(&self) -> String {
        if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}-{}", self.first, self.last)
        }
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4()
            && (number(self.first)..=number(self.last)).contains(&number(address))
            && self.gateway != Some(address)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.first.is_ipv4() == other.first.is_ipv4()
            && number(self.first) <= number(other.last)
            && number(other.first) <= number(self.last)
    }

    /// Its addresses, beginning somewhere and going round.
    fn addresses(&self, start: u128) -> impl Iterator<Item = IpAddr> {
        let size = number(self.last) - number(self.first) + 1;
        let each =
            (0..size).map(move |i| like(self.first, number(self.first) + (start + i) % size));
        each.filter(|address| self.gateway != Some(*address))
    }
}

impl App {
    /// The ranges by name.
    pub(crate) async fn ranges(&self) -> Result<Vec<Range>, Problem> {
        self.store.list(Table::Addresses).await?.iter().map(|(_, text)| from_text(text)).collect()
    }

    async fn reservations(&self) -> Result<Vec<Reservation>, Problem> {
        let all = self.store.list(Table::Reservations).await?;
        all.iter().map(|(_, text)| from_text(text)).collect()
    }

    /// Addresses that guests have in their own records, and whose they are.
    fn addresses_of_guests(&self) -> BTreeMap<IpAddr, VmId> {
        let all = self.listing();
        let each = all.guests().filter_map(|(_, domain)| {
            let address = domain.record.ipaddr.split('/').next()?;
            Some((address.parse().ok()?, domain.id))
        });
        each.collect()
    }

    async fn taken(&self) -> Result<HashSet<IpAddr>, Problem> {
        let mut taken: HashSet<IpAddr> =
            self.reservations().await?.into_iter().map(|reserved| reserved.address).collect();
        taken.extend(self.addresses_of_guests().into_keys());
        Ok(taken)
    }

    /// Adds a range; it must not overlap another.
    pub(crate) async fn add_range(&self, new: &NewRange) -> Result<Range, Problem> {
        let range = new.parse()?;
        let known = self.ranges().await?;
        if let Some(other) = known.iter().find(|other| other.overlaps(&range)) {
            return Err(Problem::new(
                ErrorCode::AlreadyExists,
                format!("the pool has {} already", other.id()),
            ));
        }
        if known.len() >= MOST_RANGES {
            return Err(refuse("cidr", format!("the pool has {MOST_RANGES} ranges")));
        }
        self.store.put(Table::Addresses, &range.id(), &to_text(&range)?).await?;
        Ok(range)
    }

    /// All ranges with what is taken of them.
    pub(crate) async fn range_statuses(&self) -> Result<Vec<RangeStatus>, Problem> {
        let (reservations, taken) = (self.reservations().await?, self.taken().await?);
        let show = |range: Range| {
            let total = range.addresses(0).count() as u64;
            let used = taken.iter().filter(|address| range.contains(**address)).count() as u64;
            let reserved =
                reservations.iter().filter(|r| range.contains(r.address)).cloned().collect();
            RangeStatus { id: range.id(), total, free: total - used, reserved, range }
        };
        Ok(self.ranges().await?.into_iter().map(show).collect())
    }

    /// Takes a range out of the pool; none of it may be reserved.
    pub(crate) async fn remove_range(&self, id: &str) -> Result<(), Problem> {
        let all = self.range_statuses().await?;
        let Some(range) = all.into_iter().find(|range| range.id == id) else {
            return Err(no_such("range", id));
        };
        if !range.reserved.is_empty() {
            let count = range.reserved.len();
            return Err(Problem::new(
                ErrorCode::WrongState,
                format!("{count} addresses of {id} are reserved"),
            ));
        }
        self.store.delete(Table::Addresses, id).await.map(drop)
    }

    /// Gives an address back by hand, of a guest that nobody knows any more.
    pub(crate) async fn release_address(&self, address: &str) -> Result<(), Problem> {
        let Some(text) = self.store.get(Table::Reservations, address).await? else {
            return Err(no_such("reservation of", address));
        };
        let reserved: Reservation = from_text(&text)?;
        if self.fleet.knows(reserved.vm) {
            return Err(Problem::new(
                ErrorCode::WrongState,
                format!("{address} belongs to guest {}, which exists", reserved.vm),
            ));
        }
        self.store.delete(Table::Reservations, address).await.map(drop)
    }

    /// A free address with its prefix length and gateway; another one each time, so that people who
    /// ask at once seldom meet. It is reserved by the creation that names it.
    pub(crate) async fn free_address(&self) -> Result<Option<(IpNet, Option<IpAddr>)>, Problem> {
        let (ranges, taken) = (self.ranges().await?, self.taken().await?);
        let begin = rand::random::<u64>();
        for i in 0..ranges.len() {
            let range = &ranges[(i + begin as usize % ranges.len()) % ranges.len()];
            let found = range.addresses(u128::from(begin)).find(|a| !taken.contains(a));
            if let Some(net) = found.and_then(|a| IpNet::new(a, range.prefix).ok()) {
                return Ok(Some((net, range.gateway)));
            }
        }
        Ok(None)
    }

    /// Reserves what a creation names, if the pool has it: all or nothing, for that operation.
    /// An address outside the pool is the caller's own business.
    pub(super) async fn reserve_for(
        &self,
        host: &HostId,
        request: &OperationRequest,
    ) -> Result<(), Problem> {
        let Work::Create { domain } = &request.work else { return Ok(()) };
        let asked = domain.seed.network.as_ref().map(|network| network.address.as_str());
        let Some(address) = asked.and_then(|text| text.split('/').next()?.parse().ok()) else {
            return Ok(());
        };
        if !self.ranges().await?.iter().any(|range| range.contains(address)) {
            return Ok(());
        }
        let taken = |vm: VmId| {
            Problem::new(ErrorCode::AlreadyExists, format!("{address} is taken by guest {vm}"))
                .hint("ask for a free one (`vmmctl address free`)")
        };
        if let Some(vm) = self.addresses_of_guests().get(&address).filter(|vm| **vm != domain.id) {
            return Err(taken(*vm));
        }
        let reserved = Reservation {
            address,
            vm: domain.id,
            host: host.clone(),
            operation: request.id,
            created: super::operations::now(),
        };
        let key = address.to_string();
        if self.store.insert(Table::Reservations, &key, &to_text(&reserved)?).await? {
            return Ok(());
        }
        match self.store.get(Table::Reservations, &key).await? {
            Some(text) => Err(taken(from_text::<Reservation>(&text)?.vm)),
            None => {
                Err(Problem::new(ErrorCode::WrongState, format!("{address} was just given back")))
            }
        }
    }

    /// Gives back what `whose` says.
    pub(super) async fn release(
        &self,
        whose: impl Fn(&Reservation) -> bool,
    ) -> Result<(), Problem> {
        for reserved in self.reservations().await?.into_iter().filter(whose) {
            self.store.delete(Table::Reservations, &reserved.address.to_string()).await?;
            tracing::info!(vm.id = %reserved.vm, address = %reserved.address, "the address is free again");
        }
        Ok(())
    }
}

fn no_such(what: &str, name: &str) -> Problem {
    Problem::new(ErrorCode::NoSuchRecord, format!("no {what} `{}`", name.escape_debug()))
}

#[cfg(test)]
#[path = "addresses_tests.rs"]
mod tests;
