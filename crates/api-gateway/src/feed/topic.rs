//! What events are about, and which of them a reader wants.

use vmmgr_common::error::{ErrorCode, Problem};
use vmmgr_common::ids::HostId;

use super::ring::News;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Topic {
    /// A guest.
    Vm,
    /// A host.
    Host,
    /// An operation.
    Operation,
}

impl Topic {
    const ALL: [(&str, Self); 3] =
        [("vm", Self::Vm), ("host", Self::Host), ("operation", Self::Operation)];

    fn parse(name: &str) -> Result<Self, Problem> {
        let found = Self::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, topic)| *topic).ok_or_else(|| {
            let said = format!("topics: no topic `{}`", name.escape_debug());
            Problem::new(ErrorCode::InvalidValue, said).hint("vm, host and operation are there")
        })
    }
}

/// Which events a reader wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// All when none is named.
    topics: Vec<Topic>,
    /// All when none is named.
    host: Option<HostId>,
}

impl Filter {
    /// `topics` as in the query: names with commas between them.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidValue`] for a name that is no topic.
    pub(crate) fn new(topics: Option<&str>, host: Option<HostId>) -> Result<Self, Problem> {
        let names = topics.iter().flat_map(|topics| topics.split(','));
        Ok(Self { topics: names.map(Topic::parse).collect::<Result<_, _>>()?, host })
    }

    pub(super) fn fits(&self, news: &News) -> bool {
        (self.topics.is_empty() || self.topics.contains(&news.topic))
            && self.host.as_ref().is_none_or(|host| *host == news.host)
    }
}
