//! What each kind and mode lets through.

use std::time::Duration;

use vmmgr_common::api::console::{ConsoleKind, ConsoleMode};

use crate::stack::Stack;

const HANDSHAKE: &[u8] = b"RFB 003.008\n\x01\x01";
const KEY: &[u8] = &[4, 1, 0, 0, 0, 0, 0, 0x61];
const LOOK: &[u8] = &[3, 0, 0, 0, 0, 0, 4, 0, 3, 0];

#[tokio::test]
async fn vnc_input_reaches_the_guest_in_share_and_not_in_view() {
    let stack = Stack::start().await;
    for (mode, wanted) in [
        (ConsoleMode::View, [HANDSHAKE, LOOK].concat()),
        (ConsoleMode::Share, [HANDSHAKE, KEY, LOOK].concat()),
        (ConsoleMode::TakeOver, [HANDSHAKE, KEY, LOOK].concat()),
    ] {
        stack.agent.seen.input.lock().unwrap().clear();
        let mut grant = stack.grant("banner");
        (grant.kind, grant.mode) = (ConsoleKind::Vnc, mode);
        let mut browser = stack.open_as(&grant).await;
        // The guest speaks first, in the same piece as the agent's answer.
        assert_eq!(browser.bytes(12).await, b"RFB 003.008\n");
        for part in [HANDSHAKE, KEY, LOOK] {
            browser.binary(part).await;
        }
        stack.until("the guest got it", || stack.agent.input().len() >= wanted.len()).await;
        assert_eq!(stack.agent.input(), wanted, "{mode:?}");
    }
}

#[tokio::test]
async fn a_vnc_client_cannot_say_what_is_not_on_the_lists() {
    let stack = Stack::start().await;
    let mut grant = stack.grant("banner");
    grant.kind = ConsoleKind::Vnc;
    let mut browser = stack.open_as(&grant).await;
    browser.binary(HANDSHAKE).await;
    browser.binary(&[255, 1, 0, 0]).await;
    assert_eq!(browser.end().await.1, Some(1008));
    stack.until("the guest is let go", || stack.agent.open() == 0).await;
    assert_eq!(stack.agent.input(), HANDSHAKE);
}

#[tokio::test]
async fn serial_input_is_dropped_in_view_and_spice_has_no_view() {
    let stack = Stack::start().await;
    let mut grant = stack.grant("sink");
    grant.mode = ConsoleMode::View;
    let mut browser = stack.open_as(&grant).await;
    browser.binary(b"reboot\n").await;
    // The pong comes after what was sent before it was dealt with.
    browser.send(&crate::browser::frame(0x89, b"1")).await;
    assert_eq!(browser.next().await, Some((0x8a, b"1".to_vec())));
    drop(browser);
    stack.until("the guest is let go", || stack.agent.open() == 0).await;
    assert!(stack.agent.input().is_empty());

    (grant.session, grant.kind) = (vmmgr_common::ids::ConsoleSessionId::new(), ConsoleKind::Spice);
    let ticket = stack.ticket(&grant);
    let refusal = stack.page(&ticket, "/console/ws").await.err().unwrap();
    assert!(refusal.0 == 422 && refusal.1.contains("SPICE"), "{refusal:?}");
}

#[tokio::test]
async fn a_serial_page_learns_the_offset_that_it_counts_from() {
    let stack = Stack::start().await;
    let ticket = stack.ticket(&stack.grant("told"));
    let mut browser = stack.page(&ticket, "/console/ws?from=4000").await.unwrap();
    assert_eq!(browser.next().await, Some((0x81, br#"{"offset":4711}"#.to_vec())));
    stack.agent.tell.send(b"login: ".to_vec()).unwrap();
    assert_eq!(browser.bytes(7).await, b"login: ");
    let request = stack.agent.seen.requests.lock().unwrap()[0].clone();
    assert!(request.contains("run=told&from=4000 "), "{request}");

    // Who did not ask gets nothing but the line.
    let mut plain = stack.open("told").await;
    assert_eq!(plain.next_within(Duration::from_millis(50)).await, None);
}
