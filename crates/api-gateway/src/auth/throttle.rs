//! Token buckets for attempts to log in.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Attempts at once.
const BURST: f64 = 8.0;
/// Attempts a second, in the long run.
const REFILL: f64 = 0.25;
/// Buckets kept; a full bucket is the same as none.
const MOST: usize = 10_000;

/// Buckets by user and origin.
#[derive(Default)]
pub(super) struct Throttle(Mutex<HashMap<String, (f64, Instant)>>);

impl Throttle {
    /// Takes one attempt; false when there is none left.
    pub(super) fn take(&self, who: &str) -> bool {
        self.take_at(who, Instant::now())
    }

    /// A successful login costs nothing.
    pub(super) fn give_back(&self, who: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(who);
    }

    fn take_at(&self, who: &str, now: Instant) -> bool {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MOST && !buckets.contains_key(who) {
            buckets.retain(|_, bucket| filled(*bucket, now) < BURST);
            if buckets.len() >= MOST {
                return false;
            }
        }
        let bucket = buckets.entry(who.to_owned()).or_insert((BURST, now));
        let level = filled(*bucket, now);
        let allowed = level >= 1.0;
        *bucket = (if allowed { level - 1.0 } else { level }, now);
        allowed
    }
}

fn filled((level, since): (f64, Instant), now: Instant) -> f64 {
    (level + now.saturating_duration_since(since).as_secs_f64() * REFILL).min(BURST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_is_followed_by_a_trickle_and_others_are_not_concerned() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let allowed = (0..20).filter(|_| throttle.take_at("ada", start)).count();
        assert_eq!(allowed, 8);
        assert!(throttle.take_at("bob", start));
        assert!(throttle.take_at("ada", start + Duration::from_secs(4)));
        assert!(!throttle.take_at("ada", start + Duration::from_secs(4)));
    }

    #[test]
    fn the_number_of_buckets_is_bounded() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        for n in 0..MOST {
            assert!(throttle.take_at(&n.to_string(), start));
        }
        assert!(!throttle.take_at("one more", start));
        assert!(throttle.take_at("one more", start + Duration::from_secs(60)));
    }
}
