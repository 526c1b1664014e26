//! RFC 6455 over a socket: the cases of the Autobahn suite for a server, against an echoing
//! guest. A relay of bytes keeps no message boundaries, so what is compared is the payload.
//! Numbers are the suite's; 12 and 13 are about compression, which is never agreed upon.

use vmmgr_common::mtls::Role;

use crate::browser::{Browser, frame};
use crate::stack::{ORIGIN, Stack};

/// What a case sends, and what must come of it.
struct Case {
    name: &'static str,
    send: Vec<u8>,
    echo: Vec<u8>,
    /// Payloads of pongs, in order.
    pongs: Vec<Vec<u8>>,
    /// Code of the closing frame; the client closes with 1000 if the server does not.
    close: Close,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Close {
    /// The server has no complaint.
    Clean,
    /// The server closes with this code, or without one.
    Server(Option<u16>),
}

fn case(name: &'static str, send: &[Vec<u8>], echo: &[u8], close: Close) -> Case {
    Case { name, send: send.concat(), echo: echo.to_vec(), pongs: Vec::new(), close }
}

fn text(payload: &[u8]) -> Vec<u8> {
    frame(0x81, payload)
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(0x88, &[&code.to_be_bytes(), reason].concat())
}

const REFUSED: Close = Close::Server(Some(1002));
const NOT_TEXT: Close = Close::Server(Some(1007));

/// 1: sizes.
fn sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    for length in [0, 125, 126, 127, 128, 65535, 65536] {
        let payload = vec![b'*'; length];
        cases.push(case("1.1 text", &[text(&payload)], &payload, Close::Clean));
        let payload = vec![0xfe; length];
        cases.push(case("1.2 binary", &[frame(0x82, &payload)], &payload, Close::Clean));
    }
    cases
}

/// 2: pings and pongs.
fn pings() -> Vec<Case> {
    let ping = |name, payloads: &[&[u8]], sent: Vec<u8>| {
        let mut case = case(name, &[sent], b"", Close::Clean);
        case.pongs = payloads.iter().map(|payload| payload.to_vec()).collect();
        case
    };
    let odd: &[u8] = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff";
    let ten: Vec<Vec<u8>> = (0..10).map(|n| format!("payload-{n}").into_bytes()).collect();
    let all: Vec<u8> = ten.iter().flat_map(|payload| frame(0x89, payload)).collect();
    let ten: Vec<&[u8]> = ten.iter().map(Vec::as_slice).collect();
    vec![
        ping("2.1", &[b""], frame(0x89, b"")),
        ping("2.2", &[b"Hello, world!"], frame(0x89, b"Hello, world!")),
        ping("2.3", &[odd], frame(0x89, odd)),
        ping("2.4", &[&[0xfe; 125]], frame(0x89, &[0xfe; 125])),
        case("2.5", &[frame(0x89, &[0xfe; 126])], b"", REFUSED),
        ping("2.7", &[], frame(0x8a, b"")),
        ping("2.8", &[], frame(0x8a, b"unsolicited pong payload")),
        ping("2.9", &[b"ping"], [frame(0x8a, b"unsolicited"), frame(0x89, b"ping")].concat()),
        ping("2.10", &ten, all),
    ]
}

/// 3 and 4: reserved bits and opcodes; what came before them counts.
fn reserved() -> Vec<Case> {
    let hello = || text(b"Hello, world!");
    let mut cases = vec![
        case("3.1", &[frame(0x81 | 0x40, b"x")], b"", REFUSED),
        case("3.5", &[frame(0x82 | 0x50, b"x")], b"", REFUSED),
        case("3.6", &[frame(0x89 | 0x60, b"x")], b"", REFUSED),
        case("3.7", &[frame(0x88 | 0x70, b"")], b"", REFUSED),
        case(
            "3.2",
            &[hello(), frame(0x81 | 0x20, b"x"), frame(0x89, b"")],
            b"Hello, world!",
            REFUSED,
        ),
        case(
            "3.4",
            &[hello(), frame(0x81 | 0x40, b"x"), frame(0x89, b"")],
            b"Hello, world!",
            REFUSED,
        ),
    ];
    for opcode in (3..8).chain(11..16) {
        let odd = || frame(0x80 | opcode, b"");
        cases.push(case("4.1 alone", &[odd()], b"", REFUSED));
        cases.push(case(
            "4.1 after",
            &[hello(), odd(), frame(0x89, b"")],
            b"Hello, world!",
            REFUSED,
        ));
    }
    cases
}

/// 5: fragments.
fn fragments() -> Vec<Case> {
    let (first, last) = (|| frame(0x01, b"fragment1"), || frame(0x80, b"fragment2"));
    let whole = b"fragment1fragment2";
    let mut with_ping =
        case("5.6", &[first(), frame(0x89, b"ping payload"), last()], whole, Close::Clean);
    with_ping.pongs = vec![b"ping payload".to_vec()];
    vec![
        case("5.1", &[frame(0x09, b"fragment1"), last()], b"", REFUSED),
        case("5.2", &[frame(0x0a, b"fragment1"), last()], b"", REFUSED),
        case("5.3", &[first(), last()], whole, Close::Clean),
        with_ping,
        case("5.9", &[last(), text(b"Hello")], b"", REFUSED),
        case("5.12", &[frame(0x00, b"non-continuation"), text(b"Hello")], b"", REFUSED),
        case("5.15", &[first(), last(), frame(0x00, b"x"), text(b"y")], whole, REFUSED),
        case("5.18", &[first(), text(b"fragment2")], b"fragment1", REFUSED),
        case(
            "5.19",
            &[first(), frame(0x00, b"fragment2"), frame(0x00, b"3"), frame(0x80, b"4")],
            b"fragment1fragment234",
            Close::Clean,
        ),
    ]
}

/// 6: text is UTF-8, told as early as it can be.
fn unicode() -> Vec<Case> {
    let good: [&[u8]; 8] = [
        b"",
        b"Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4\xc3\xbc\xc3\xa0\xc3\xa1-UTF-8!!",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5",
        b"\xf0\x90\x80\x80",
        b"\xed\x9f\xbf",
        b"\xee\x80\x80",
        b"\xf4\x8f\xbf\xbf",
        b"\xef\xbf\xbf",
    ];
    let bad: [&[u8]; 12] = [
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\xce",
        b"\xf8\x88\x80\x80\x80",
        b"\xf7\xbf\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\x80",
        b"\xbf",
        b"\xc0\xaf",
        b"\xe0\x80\xaf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xff",
    ];
    let mut cases = Vec::new();
    for payload in good {
        cases.push(case("6 good", &[text(payload)], payload, Close::Clean));
        let mut bytes: Vec<Vec<u8>> = vec![frame(0x01, b"")];
        bytes.extend(payload.iter().map(|byte| frame(0x00, &[*byte])));
        bytes.push(frame(0x80, b""));
        cases.push(case("6 good, byte by byte", &bytes, payload, Close::Clean));
    }
    for payload in bad {
        // What could still have become text may be on its way already.
        let error = std::str::from_utf8(payload).unwrap_err();
        let end = error.error_len().map_or(payload.len(), |odd| error.valid_up_to() + odd);
        cases.push(case("6 bad", &[text(payload)], &payload[..end], NOT_TEXT));
    }
    // 6.4: the message is not over, and cannot become text any more.
    let early = [frame(0x01, b"\xce\xba"), frame(0x00, b"\xf4\x90")];
    cases.push(case("6.4", &early, b"\xce\xba", NOT_TEXT));
    cases
}

/// 7: the closing handshake.
fn closing() -> Vec<Case> {
    let code = |code| Close::Server(Some(code));
    let mut cases = vec![
        case("7.1.1", &[text(b"Hello"), close(1000, b"")], b"Hello", code(1000)),
        case("7.1.2", &[close(1000, b""), close(1000, b"")], b"", code(1000)),
        case("7.1.3", &[close(1000, b""), frame(0x89, b"")], b"", code(1000)),
        case("7.1.4", &[close(1000, b""), text(b"Hello")], b"", code(1000)),
        case("7.1.5", &[frame(0x01, b"a"), close(1000, b""), frame(0x80, b"b")], b"a", code(1000)),
        case("7.3.1", &[frame(0x88, b"")], b"", Close::Server(None)),
        case("7.3.2", &[frame(0x88, b"a")], b"", REFUSED),
        case("7.3.4", &[close(1000, b"Hello World!")], b"", code(1000)),
        case("7.3.5", &[close(1000, &[b'*'; 123])], b"", code(1000)),
        case("7.3.6", &[close(1000, &[b'*'; 124])], b"", REFUSED),
        case("7.5.1", &[close(1000, b"\xce\xba\xed\xa0\x80")], b"", NOT_TEXT),
    ];
    for good in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        cases.push(case("7.7", &[close(good, b"")], b"", code(good)));
    }
    for bad in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535] {
        cases.push(case("7.9", &[close(bad, b"")], b"", REFUSED));
    }
    cases
}

/// Beyond the suite: masks, lengths and limits.
fn limits() -> Vec<Case> {
    let head = |length: u64| [&[0x82, 0xff], length.to_be_bytes().as_slice(), &[0; 4]].concat();
    vec![
        case("not masked", &[vec![0x82, 0x01, 0x00]], b"", REFUSED),
        case("a short length spelled long", &[head(5)], b"", REFUSED),
        case("the highest bit", &[head(1 << 63)], b"", REFUSED),
        case("too large", &[head((16 << 20) + 1)], b"", Close::Server(Some(1009))),
    ]
}

async fn run(browser: &mut Browser, case: &Case, piece: usize) {
    let told = format!("{} in pieces of {piece}", case.name);
    for bytes in case.send.chunks(piece) {
        browser.send(bytes).await;
    }
    let (mut echo, mut pongs) = (Vec::new(), Vec::new());
    let clean = case.close == Close::Clean;
    let mut code = None;
    while !clean || echo.len() < case.echo.len() || pongs.len() < case.pongs.len() {
        match browser.next().await.unwrap_or_else(|| panic!("{told}: cut")) {
            (0x82, payload) => echo.extend(payload),
            (0x8a, payload) => pongs.push(payload),
            (0x88, payload) => {
                code = Some(payload.first_chunk().map(|code| u16::from_be_bytes(*code)));
                break;
            }
            (first, payload) => panic!("{told}: {first:x} {payload:x?}"),
        }
    }
    if clean {
        browser.send(&close(1000, b"")).await;
        let (rest, answer) = browser.end().await;
        assert!(rest.is_empty() && answer == Some(1000), "{told}: {rest:x?} {answer:?}");
    } else if let Close::Server(wanted) = case.close {
        assert_eq!(code, Some(wanted), "{told}");
    }
    // After a complaint the guest is gone, and its echo may have come or not.
    assert!(
        if clean { echo == case.echo } else { case.echo.starts_with(&echo) },
        "{told}: {echo:x?}"
    );
    assert_eq!(pongs, case.pongs, "{told}");
    browser.closed().await;
}

#[tokio::test]
async fn the_cases_of_the_autobahn_suite() {
    let stack = Stack::start().await;
    let mut count = 0;
    for make in [sizes, pings, reserved, fragments, unicode, closing, limits] {
        for case in make() {
            // The suite's own "in chops of one octet", where it is worth it.
            let pieces = if case.send.len() < 200 { [usize::MAX, 1] } else { [usize::MAX, 997] };
            for piece in pieces {
                run(&mut stack.open("echo").await, &case, piece).await;
                count += 1;
            }
        }
    }
    println!("{count} cases");
    assert!(count > 200);
}

/// 9: large messages, whole and in fragments, up to the limit.
#[tokio::test]
async fn large_messages_pass_whole_and_in_fragments() {
    let stack = Stack::start().await;
    let mut browser = stack.open("hash").await;
    let message: Vec<u8> = (0..16 << 20).map(|n: u32| (n >> 3) as u8).collect();
    browser.binary(&message).await;
    for (index, piece) in message[..4 << 20].chunks(1000).enumerate() {
        let first = if index == 0 { 0x02 } else { 0x00 };
        browser.send(&frame(first, piece)).await;
    }
    browser.send(&frame(0x80, b"")).await;
    browser.send(&close(1000, b"")).await;
    assert_eq!(browser.end().await.1, Some(1000));
    use sha2::Digest as _;
    let wanted: [u8; 32] =
        sha2::Sha256::new_with_prefix(&message).chain_update(&message[..4 << 20]).finalize().into();
    let hashes = || stack.agent.seen.hashes.lock().unwrap().clone();
    stack.until("the guest saw the end", || !hashes().is_empty()).await;
    assert_eq!(hashes(), [wanted]);
}

#[tokio::test]
async fn only_binary_is_selected_and_only_when_offered() {
    let stack = Stack::start().await;
    let page = stack.open("echo").await;
    let selected: Vec<&str> =
        page.head.lines().filter(|line| line.starts_with("Sec-WebSocket-Protocol")).collect();
    assert_eq!(selected, ["Sec-WebSocket-Protocol: binary"]);
    assert!(!page.head.contains("Sec-WebSocket-Extensions"));
    // noVNC's `vnc.html` offers `binary`, `vnc_lite.html` nothing.
    for (offer, selected) in [("Sec-WebSocket-Protocol: binary\r\n", true), ("", false)] {
        let ticket = stack.ticket(&stack.grant("echo"));
        let headers =
            format!("Origin: {ORIGIN}\r\n{offer}Sec-WebSocket-Extensions: permessage-deflate\r\n");
        let path = format!("/websockify/?token={ticket}");
        let page = stack.request(Role::Nginx, &path, &headers).await.ok().unwrap();
        assert_eq!(page.head.contains("Protocol: binary"), selected);
        assert!(!page.head.contains("Extensions"));
    }
}
