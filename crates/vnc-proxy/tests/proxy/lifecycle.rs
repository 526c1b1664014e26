//! How sessions end.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use vmmgr_common::api::console::{ConsoleMode, ConsoleVerdict};

use crate::browser::frame;
use crate::gateway::Gateway;
use crate::stack::Stack;

#[tokio::test]
async fn a_revoked_session_ends_within_a_second_and_the_others_go_on() {
    let stack = Stack::start().await;
    let (grant, other) = (stack.grant("echo"), stack.grant("echo"));
    let (mut browser, mut bystander) = (stack.open_as(&grant).await, stack.open_as(&other).await);
    let start = Instant::now();
    stack.gateway.end(grant.session, "revoked");
    let (_, payload) = browser.next().await.unwrap();
    assert_eq!(payload, [&1008_u16.to_be_bytes(), b"revoked".as_slice()].concat());
    stack.until("the guest is let go", || stack.agent.open() == 1).await;
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    browser.send(&frame(0x88, &1008_u16.to_be_bytes())).await;
    browser.closed().await;
    bystander.binary(b"on").await;
    assert_eq!(bystander.bytes(2).await, b"on");
}

#[tokio::test]
async fn a_browser_that_does_not_answer_a_close_is_cut_and_its_guest_is_gone_before() {
    let stack = Stack::start().await;
    let grant = stack.grant("flood");
    let mut browser = stack.open_as(&grant).await;
    // It reads nothing: the Close is behind what the guest has sent.
    stack.gateway.end(grant.session, "deleted");
    stack.until("the guest is let go", || stack.agent.open() == 0).await;
    assert_eq!(browser.end().await.1, Some(1008));
    browser.closed().await;
}

#[tokio::test]
async fn a_session_ends_when_its_link_does() {
    let stack = Stack::start().await;
    let mut grant = stack.grant("echo");
    grant.ends_at = Some((Utc::now() + TimeDelta::milliseconds(700)).to_rfc3339());
    let mut browser = stack.open_as(&grant).await;
    browser.binary(b"x").await;
    assert_eq!(browser.bytes(1).await, b"x");
    assert_eq!(browser.end().await.1, Some(1008));
    assert!(Utc::now().to_rfc3339() >= grant.ends_at.clone().unwrap());

    grant.ends_at = Some((Utc::now() - TimeDelta::seconds(1)).to_rfc3339());
    let ticket = stack.ticket(&grant);
    assert_eq!(stack.page(&ticket, "/console/ws").await.err().unwrap().0, 401);
}

#[tokio::test]
async fn sessions_are_reported_and_a_verdict_ends_them() {
    let stack = Stack::start().await;
    let mut grant = stack.grant("echo");
    grant.mode = ConsoleMode::TakeOver;
    let mut browser = stack.open_as(&grant).await;
    let reported = || stack.gateway.report.lock().unwrap().sessions.clone();
    stack.until("it is reported", || reported().len() == 1).await;
    let session = reported().remove(0);
    assert_eq!((session.id, session.vm, session.mode), (grant.session, grant.vm, grant.mode));
    assert_eq!((session.user.as_str(), session.address.as_str()), ("ada", "192.0.2.7"));
    *stack.gateway.verdict.lock().unwrap() = ConsoleVerdict { end: vec![grant.session] };
    assert_eq!(browser.end().await.1, Some(1008));
    drop(browser);
    stack.until("its end is reported", || reported().is_empty()).await;
}

#[tokio::test]
async fn a_restart_of_the_gateway_cuts_no_session_and_is_caught_up_with() {
    let stack = Stack::start().await;
    let grant = stack.grant("echo");
    let mut browser = stack.open_as(&grant).await;
    stack.gateway.set_away(true);
    stack.until("the events are cut", || stack.gateway.followers() == 0).await;
    let ticket = stack.ticket(&stack.grant("echo"));
    assert_eq!(stack.page(&ticket, "/console/ws").await.err().unwrap().0, 503);
    browser.binary(b"on").await;
    assert_eq!(browser.bytes(2).await, b"on");
    // What was decided meanwhile is in the next verdict.
    *stack.gateway.verdict.lock().unwrap() = ConsoleVerdict { end: vec![grant.session] };
    stack.gateway.set_away(false);
    assert_eq!(browser.end().await.1, Some(1008));
}

#[tokio::test]
async fn each_of_two_gateways_redeems_hears_and_ends() {
    let stack = Stack::with_two_gateways().await;
    let (first, second) = (&stack.gateway, &stack.others[0]);
    stack.until("both are followed", || first.followers() * second.followers() > 0).await;
    let grant = stack.grant("echo");
    let mut browser = stack.open_as(&grant).await;
    let knows = |gateway: &Gateway| {
        gateway.report.lock().unwrap().sessions.iter().any(|session| session.id == grant.session)
    };
    stack.until("both hear of it", || knows(first) && knows(second)).await;
    second.end(grant.session, "revoked");
    assert_eq!(browser.end().await.1, Some(1008));
    stack.until("both hear of its end", || !knows(first) && !knows(second)).await;

    // The first one goes away: the second takes its place, and the service stays ready.
    first.set_away(true);
    stack.until("its events are cut", || first.followers() == 0).await;
    let other = stack.grant("echo");
    let ticket = second.ticket(&other);
    let mut browser = stack.page(&ticket, "/console/ws").await.ok().unwrap();
    browser.binary(b"on").await;
    assert_eq!(browser.bytes(2).await, b"on");
    assert!(ops(stack.ops, "/readyz").await.contains("\"ready\":true"));
    // A ticket that the second has judged is not shown to others, and when none is there that is told.
    first.set_away(false);
    assert_eq!(stack.page("unknown-unknown-unknown", "/console/ws").await.err().unwrap().0, 401);
    first.set_away(true);
    second.set_away(true);
    let ticket = second.ticket(&other);
    assert_eq!(stack.page(&ticket, "/console/ws").await.err().unwrap().0, 503);
}

#[tokio::test]
async fn the_guests_end_is_the_sessions() {
    let stack = Stack::start().await;
    let mut browser = stack.open("bye").await;
    assert_eq!(browser.end().await.1, Some(1000));
    browser.send(&frame(0x88, b"")).await;
    browser.closed().await;
}

#[tokio::test]
async fn a_killed_agent_is_a_lost_host_and_no_guest_s_end() {
    let stack = Stack::start().await;
    let mut browser = stack.open("killed").await;
    assert_eq!(browser.end().await.1, Some(1011));
}

#[tokio::test]
async fn what_a_browser_sent_before_it_left_reaches_the_guest() {
    let stack = Stack::start().await;
    let mut browser = stack.open("sink").await;
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    browser.send(&[frame(0x82, &bytes), frame(0x88, &1000_u16.to_be_bytes())].concat()).await;
    assert_eq!(browser.end().await.1, Some(1000));
    stack.until("it is there", || stack.agent.input().len() == bytes.len()).await;
    assert!(stack.agent.input() == bytes);
}

#[tokio::test]
async fn a_browser_that_gives_no_sign_of_life_is_cut_and_one_that_does_is_not() {
    let stack = Stack::with_ping(1).await;
    let (mut dead, mut alive) = (stack.open("echo").await, stack.open("echo").await);
    let start = Instant::now();
    let mut pings = 0;
    while start.elapsed() < Duration::from_secs(6) {
        if let Some((0x89, payload)) = alive.next_within(Duration::from_millis(100)).await {
            pings += 1;
            alive.send(&frame(0x8a, &payload)).await;
        }
    }
    assert!(pings >= 4, "{pings}");
    alive.binary(b"alive").await;
    assert_eq!(alive.bytes(5).await, b"alive");
    assert_eq!(dead.end().await.1, Some(1011));
    dead.closed().await;
    assert_eq!(stack.agent.open(), 1);
}

#[tokio::test]
async fn a_drain_tells_all_to_come_back_and_takes_less_than_ten_seconds() {
    let mut stack = Stack::start().await;
    let mut browsers = Vec::new();
    for _ in 0..20 {
        browsers.push(stack.open("echo").await);
    }
    // One of them answers nothing and reads nothing.
    let _stuck = stack.open("flood").await;
    let start = Instant::now();
    stack.terminate();
    for browser in &mut browsers {
        assert_eq!(browser.end().await.1, Some(1012));
        browser.send(&frame(0x88, &1012_u16.to_be_bytes())).await;
        browser.closed().await;
    }
    assert!(stack.ended().await);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(stack.gateway.report.lock().unwrap().sessions.is_empty());
}

/// What the listener of health and metrics answers.
async fn ops(address: SocketAddr, path: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let ask = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    socket.write_all(ask.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn health_and_metrics_are_told() {
    let stack = Stack::start().await;
    let mut browser = stack.open("echo").await;
    browser.binary(b"1234567").await;
    browser.bytes(7).await;
    browser.send(&frame(0x88, &1000_u16.to_be_bytes())).await;
    assert_eq!(browser.end().await.1, Some(1000));
    let get = |path: &'static str| ops(stack.ops, path);
    assert!(get("/readyz").await.contains("\"ready\":true"));
    let start = Instant::now();
    loop {
        let text = get("/metrics").await;
        let all = [
            "vmmgr_console_ends_total{cause=\"browser\"} 1",
            "vmmgr_console_bytes_total{from=\"browser\"} 7",
            "vmmgr_console_sessions{kind=\"serial\"} 0",
        ];
        if all.iter().all(|line| text.contains(line)) {
            break;
        }
        assert!(start.elapsed() < crate::stack::PATIENCE, "{text}");
    }
}
