//! The audit log: who asked for which change, and who was refused.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// One change or refusal. Each holds the hash of the one before it, so that none can be altered,
/// taken out or put elsewhere without all that follow telling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// Counts from 1.
    pub number: u64,
    /// RFC 3339, UTC.
    pub at: String,
    /// Account, `link:` and the id of a link, `host:` and the name of a host, or nothing where the
    /// caller proved nothing.
    pub who: String,
    /// Method of the request.
    pub method: String,
    /// Its path, without query, and without what is secret in it.
    pub path: String,
    /// Status of the answer.
    pub status: u16,
    /// Id of the request, as all logs have it.
    pub request_id: String,
    /// Refusals before this record that were too many to be written down.
    pub omitted: u64,
    /// Hash of the record before, empty for the first of all.
    pub previous: String,
    /// SHA-256 of all of the above, hexadecimal.
    pub hash: String,
}

impl AuditRecord {
    /// With its hash.
    #[must_use]
    pub fn sealed(mut self) -> Self {
        self.hash = self.digest();
        self
    }

    fn digest(&self) -> String {
        let (number, status) = (self.number.to_string(), self.status.to_string());
        let omitted = self.omitted.to_string();
        let parts = [
            &number,
            &self.at,
            &self.who,
            &self.method,
            &self.path,
            &status,
            &self.request_id,
            &omitted,
            &self.previous,
        ];
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        format!("{:x}", hash.finalize())
    }
}

/// What is wrong with a log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// Something in the record is not what was written.
    #[error("record {0} was altered")]
    Altered(u64),
    /// A record is missing before this one, or it stood elsewhere.
    #[error("record {0} does not follow the one before it")]
    Torn(u64),
}

/// Checks records, the oldest first. That the newest are missing shows only in what was noted of
/// them elsewhere: keep number and hash of the last one from time to time.
pub fn verify<'a>(
    records: impl IntoIterator<Item = &'a AuditRecord>,
) -> Result<Option<&'a AuditRecord>, AuditError> {
    let mut before: Option<&AuditRecord> = None;
    for record in records {
        if record.digest() != record.hash {
            return Err(AuditError::Altered(record.number));
        }
        let follows = match before {
            Some(before) => record.number == before.number + 1 && record.previous == before.hash,
            None => record.number != 1 || record.previous.is_empty(),
        };
        if !follows {
            return Err(AuditError::Torn(record.number));
        }
        before = Some(record);
    }
    Ok(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Vec<AuditRecord> {
        let mut all: Vec<AuditRecord> = Vec::new();
        for number in 1..=5 {
            all.push(
                AuditRecord {
                    number,
                    at: "2026-01-02T03:04:05Z".into(),
                    who: "ada".into(),
                    method: "POST".into(),
                    path: "/v1/hosts".into(),
                    status: 201,
                    request_id: "r".into(),
                    omitted: 0,
                    previous: all.last().map(|last| last.hash.clone()).unwrap_or_default(),
                    hash: String::new(),
                }
                .sealed(),
            );
        }
        all
    }

    #[test]
    fn what_was_altered_taken_out_or_moved_is_found() {
        let whole = log();
        assert_eq!(verify(&whole).unwrap().unwrap().number, 5);
        assert_eq!(verify(&whole[2..]).unwrap().unwrap().number, 5, "an old part is elsewhere");
        assert_eq!(verify(&[]), Ok(None));
        let altered = |change: fn(&mut AuditRecord)| {
            let mut log = log();
            change(&mut log[2]);
            verify(&log).unwrap_err()
        };
        assert_eq!(altered(|record| record.who = "eve".into()), AuditError::Altered(3));
        assert_eq!(altered(|record| record.status = 403), AuditError::Altered(3));
        assert_eq!(altered(|record| record.omitted = 1), AuditError::Altered(3));
        // Text that moves from one field into the next is another text.
        let moved = altered(|record| {
            record.who = "adaP".into();
            record.method = "OST".into();
        });
        assert_eq!(moved, AuditError::Altered(3));
        // Who can write can seal as well, but not what others have already sealed.
        let resealed = altered(|record| {
            record.who = "eve".into();
            *record = record.clone().sealed();
        });
        assert_eq!(resealed, AuditError::Torn(4));
        let mut short = log();
        short.remove(1);
        assert_eq!(verify(&short), Err(AuditError::Torn(3)));
        let mut mixed = log();
        mixed.swap(1, 2);
        assert_eq!(verify(&mixed), Err(AuditError::Torn(3)));
    }
}
