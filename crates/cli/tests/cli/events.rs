//! `vmmctl events`: what is printed, and what happens when the stream ends.

use serde_json::{Value, json};

use crate::support::{Answer, Asked, Fake, OPERATION, VM, operation, vmmctl};

/// A stream that ends, and after it what `then` says.
fn stream(then: impl Fn() -> Answer + Send + 'static) -> Fake {
    Fake::new(move |asked: &Asked| match asked.last_event_id {
        None => Answer::events(&[
            ("resync", json!({"reason": "start"})),
            ("vm", json!({"host": "host01", "id": VM, "state": "paused", "name": "web1"})),
            ("operation", operation("suspend", "succeeded")),
        ]),
        Some(_) => then(),
    })
}

#[test]
fn each_event_is_a_line_and_a_stream_that_ended_is_opened_where_it_was() {
    let server = stream(|| Answer::problem(401, "unauthenticated"));
    let run = vmmctl(&server.url, &["events", "--host", "host01", "--topics", "vm,operation"]);
    // The second answer: the token is worth nothing any more.
    assert_eq!(run.code, 4, "{}", run.err);
    let lines: Vec<&str> = run.out.lines().collect();
    assert_eq!(lines.len(), 2, "{}", run.out);
    assert!(lines[0].contains(VM) && lines[0].contains("paused") && lines[0].contains("web1"));
    assert!(lines[1].contains(OPERATION) && lines[1].contains("suspend"));
    let asked = server.asked();
    assert_eq!(asked[0].target, "/v1/events?host=host01&topics=vm,operation");
    let positions: Vec<_> = asked.iter().map(|asked| asked.last_event_id.as_deref()).collect();
    assert_eq!(positions, [None, Some("e-3")]);
}

#[test]
fn json_is_the_event_as_it_came() {
    let server = stream(|| Answer::problem(401, "unauthenticated"));
    let run = vmmctl(&server.url, &["-o", "json", "events"]);
    let lines: Vec<Value> =
        run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3, "{}", run.out);
    assert_eq!(lines[0], json!({"event": "resync", "id": "e-1", "data": {"reason": "start"}}));
    assert_eq!((&lines[1]["event"], &lines[1]["data"]["id"]), (&json!("vm"), &json!(VM)));
    let server = stream(|| Answer::problem(401, "unauthenticated"));
    let run = vmmctl(&server.url, &["-o", "name", "events"]);
    assert_eq!(run.out, format!("{VM}\n{OPERATION}\n"));
}

#[test]
fn a_server_that_is_away_is_tried_again_but_not_at_first() {
    let server = Fake::new(|_| Answer::problem(503, "store_unavailable"));
    assert_eq!(vmmctl(&server.url, &["events"]).code, 7);
    assert_eq!(server.asked().len(), 1);
    let count = std::sync::atomic::AtomicUsize::new(0);
    let server = stream(move || match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
        0 => Answer::problem(503, "store_unavailable"),
        1 => Answer::events(&[("resync", json!({"reason": "restarted"}))]),
        _ => Answer::problem(403, "forbidden"),
    });
    let run = vmmctl(&server.url, &["events"]);
    assert_eq!(run.code, 4);
    assert!(run.err.contains("events were missed"), "{}", run.err);
    assert_eq!(server.asked().len(), 4);
}
