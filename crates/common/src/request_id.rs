//! The id that a request keeps on its way through the services (`x-request-id`).

use std::future::Future;

/// Header that carries it.
pub const HEADER: &str = "x-request-id";

tokio::task_local! {
    static CURRENT: String;
}

/// The id of the request that the current task serves.
#[must_use]
pub fn current() -> Option<String> {
    CURRENT.try_with(Clone::clone).ok()
}

/// Runs `work` under `id`.
pub fn scope<F: Future>(id: String, work: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(id, work)
}

/// Takes a caller's id if it is fit for a log (1 to 64 of `a-z A-Z 0-9 -`), else mints one.
#[must_use]
pub fn accept(given: Option<&str>) -> String {
    match given {
        Some(id)
            if (1..=64).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') =>
        {
            id.to_owned()
        }
        _ => uuid::Uuid::new_v4().simple().to_string(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_id_that_would_forge_log_lines_is_replaced() {
        assert_eq!(super::accept(Some("abc-1")), "abc-1");
        for bad in ["", "a b", "a\nb", &"x".repeat(65)] {
            assert_ne!(super::accept(Some(bad)), bad);
        }
    }
}
