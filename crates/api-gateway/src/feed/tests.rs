use std::time::Duration;

use serde_json::{Value, json};
use vmmgr_common::client::{ServerEvent, ServerEvents};

use super::*;
use crate::sse::KEEP_ALIVE;

fn host(name: &str) -> HostId {
    HostId::parse(name).unwrap()
}

fn tell(feed: &Feed, topic: Topic, on: &str, number: u32) {
    feed.tell_json(topic, "news", &host(on), &json!({"number": number}));
}

/// All that a reader can have now.
fn taken(reader: &mut Reader) -> Vec<ServerEvent> {
    let (mut events, mut parser) = (Vec::new(), ServerEvents::default());
    while let Some(bytes) = reader.ready() {
        events.extend(parser.push(&bytes).unwrap());
    }
    events
}

fn data(event: &ServerEvent) -> Value {
    serde_json::from_str(&event.data).unwrap()
}

fn numbers(events: &[ServerEvent]) -> Vec<u64> {
    events.iter().filter_map(|event| data(event)["number"].as_u64()).collect()
}

fn reasons(events: &[ServerEvent]) -> Vec<Value> {
    let resyncs = events.iter().filter(|event| event.event == "resync");
    resyncs.map(|event| data(event)["reason"].clone()).collect()
}

#[test]
fn a_reader_that_comes_back_misses_nothing_and_has_nothing_twice() {
    let feed = Feed::default();
    tell(&feed, Topic::Vm, "a", 1);
    let mut reader = feed.read(None, Filter::default()).unwrap();
    tell(&feed, Topic::Vm, "a", 2);
    tell(&feed, Topic::Host, "b", 3);
    let seen = taken(&mut reader);
    assert_eq!((seen[0].event.as_str(), data(&seen[0])), ("resync", json!({"reason": "start"})));
    assert_eq!(numbers(&seen), [2, 3], "it begins now");
    drop(reader);
    tell(&feed, Topic::Operation, "a", 4);
    for (at, rest) in [(0, vec![2, 3, 4]), (1, vec![3, 4]), (2, vec![4])] {
        let mut again = feed.read(Some(&seen[at].id), Filter::default()).unwrap();
        let seen = taken(&mut again);
        assert_eq!((numbers(&seen), reasons(&seen)), (rest, vec![]), "after {at}");
    }
}

#[test]
fn a_position_that_is_forgotten_or_foreign_is_a_resync() {
    let feed = Feed::with(2, 1 << 20, 10);
    let begun = taken(&mut feed.read(None, Filter::default()).unwrap());
    for number in 1..=3 {
        tell(&feed, Topic::Vm, "a", number);
    }
    let resumed = |last: &str| {
        let mut reader = feed.read(Some(last), Filter::default()).unwrap();
        tell(&feed, Topic::Vm, "a", 9);
        taken(&mut reader)
    };
    let late = resumed(&begun[0].id);
    assert_eq!((reasons(&late), numbers(&late)), (vec![json!("missed")], vec![9]));
    let ahead = resumed(&feed.id(999));
    assert_eq!(reasons(&ahead), [json!("missed")]);
    let other = Feed::default();
    for foreign in [other.id(1).as_str(), "", "-", "x", "-1", &feed.id(0).replace("-0", "-x")] {
        let seen = resumed(foreign);
        assert_eq!((reasons(&seen), numbers(&seen)), (vec![json!("restarted")], vec![9]));
    }
}

#[test]
fn a_slow_reader_is_told_and_costs_no_memory() {
    let feed = Feed::with(1000, 2000, 10);
    let mut reader = feed.read(None, Filter::default()).unwrap();
    assert_eq!(reasons(&taken(&mut reader)), [json!("start")]);
    for number in 0..500 {
        tell(&feed, Topic::Vm, "a", number);
        assert!(feed.ring().bytes() <= 2000);
    }
    let seen = taken(&mut reader);
    assert_eq!((seen.len(), reasons(&seen)), (1, vec![json!("missed")]));
    tell(&feed, Topic::Vm, "a", 500);
    assert_eq!(numbers(&taken(&mut reader)), [500], "it goes on from there");
}

#[test]
fn what_is_not_wanted_is_left_out_and_does_not_age_the_position() {
    let feed = Feed::with(4, 1 << 20, 10);
    let all = [(Topic::Vm, "a", 1), (Topic::Host, "a", 2), (Topic::Vm, "b", 3)];
    let wanted = |topics: Option<&str>, on: Option<&str>| {
        let filter = Filter::new(topics, on.map(host)).unwrap();
        let mut reader = feed.read(None, filter).unwrap();
        all.iter().for_each(|(topic, on, number)| tell(&feed, *topic, on, *number));
        numbers(&taken(&mut reader))
    };
    assert_eq!(wanted(None, None), [1, 2, 3]);
    assert_eq!(wanted(Some("vm"), None), [1, 3]);
    assert_eq!(wanted(Some("vm,host"), Some("a")), [1, 2]);
    assert!(wanted(Some("operation"), None).is_empty());
    for bad in ["", "vm,", "VM", "guests"] {
        assert_eq!(Filter::new(Some(bad), None).unwrap_err().status, 422, "{bad}");
    }
    let mut quiet = feed.read(None, Filter::new(Some("operation"), None).unwrap()).unwrap();
    assert_eq!(taken(&mut quiet).len(), 1);
    for number in 0..100 {
        tell(&feed, Topic::Vm, "a", number);
        assert_eq!(taken(&mut quiet), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_says_that_it_lives_and_where_it_is() {
    let feed = Feed::default();
    let mut reader = feed.read(None, Filter::new(Some("host"), None).unwrap()).unwrap();
    assert!(reader.next().await.starts_with(b"event: resync"));
    let begun = tokio::time::Instant::now();
    let other = feed.clone();
    tokio::spawn(async move {
        // What its filter leaves out does not put the comment off.
        for number in 0..20 {
            tell(&other, Topic::Vm, "a", number);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let comment = String::from_utf8(reader.next().await.to_vec()).unwrap();
    assert_eq!(begun.elapsed().as_secs(), KEEP_ALIVE.as_secs());
    let id = comment.strip_prefix(": keep-alive\nid: ").unwrap().strip_suffix("\n\n").unwrap();
    assert!(feed.number(id).unwrap() > 10, "{id}");
}

#[test]
fn streams_are_counted_and_places_come_back() {
    let feed = Feed::with(10, 1000, 2);
    let one = feed.read(None, Filter::default()).unwrap();
    let _two = feed.read(None, Filter::default()).unwrap();
    let refused = feed.read(None, Filter::default()).err().unwrap();
    assert_eq!(refused.code, ErrorCode::RateLimited);
    drop(one);
    assert!(feed.read(None, Filter::default()).is_ok());
}
