use super::*;

const HANDSHAKE: &[u8] = b"RFB 003.008\n\x01\x00";
/// What the guest sees of it: always shared.
const SHAKEN: &[u8] = b"RFB 003.008\n\x01\x01";

/// All of `input`, `size` at a time.
fn run(view: bool, input: &[u8], size: usize) -> (Vec<u8>, Result<(), Refusal>) {
    let (mut filter, mut out) = (Filter::new(view), Vec::new());
    for piece in input.chunks(size) {
        if let Err(refusal) = filter.pass(piece, &mut out) {
            return (out, Err(refusal));
        }
    }
    (out, Ok(()))
}

fn encodings(list: &[i32]) -> Vec<u8> {
    let mut message = vec![2, 0];
    message.extend((list.len() as u16).to_be_bytes());
    message.extend(list.iter().flat_map(|encoding| encoding.to_be_bytes()));
    message
}

fn clipboard(text: &[u8]) -> Vec<u8> {
    [&[6, 0, 0, 0], (text.len() as u32).to_be_bytes().as_slice(), text].concat()
}

struct Message {
    bytes: Vec<u8>,
    input: bool,
}

fn messages() -> Vec<Message> {
    let look = |bytes: &[u8]| Message { bytes: bytes.to_vec(), input: false };
    let act = |bytes: &[u8]| Message { bytes: bytes.to_vec(), input: true };
    vec![
        look(&[0; 20]),
        look(&encodings(&[7, 16, 0, -223, -258])),
        look(&[3, 1, 0, 0, 0, 0, 4, 0, 3, 0]),
        act(&[4, 1, 0, 0, 0, 0, 0, 0x61]),
        act(&[5, 1, 0, 9, 0, 9]),
        act(&clipboard(b"paste")),
        act(&clipboard(b"")),
        act(&[[251, 0, 4, 0, 3, 0, 1, 0].as_slice(), &[7; 16]].concat()),
        act(&[255, 0, 0, 1, 0, 0, 0, 0x61, 0, 0, 0, 30]),
        look(&[3, 0, 0, 0, 0, 0, 4, 0, 3, 0]),
    ]
}

#[test]
fn a_client_that_shares_gets_through_and_one_that_views_only_looks() {
    let input: Vec<u8> = messages().iter().flat_map(|message| message.bytes.clone()).collect();
    for view in [false, true] {
        let kept = messages().into_iter().filter(|message| !(view && message.input));
        let kept: Vec<u8> = kept.flat_map(|message| message.bytes).collect();
        for size in (1..30).chain([usize::MAX]) {
            let (out, result) = run(view, &[HANDSHAKE, &input].concat(), size);
            assert_eq!(result, Ok(()));
            assert_eq!(out, [SHAKEN, &kept].concat(), "view {view}, in pieces of {size}");
        }
    }
}

#[test]
fn a_password_passes() {
    let input = [b"RFB 003.007\n\x02".as_slice(), &[9; 16], &[1], &[5, 0, 0, 0, 0, 0]].concat();
    for size in [1, 5, usize::MAX] {
        assert_eq!(run(false, &input, size), (input.clone(), Ok(())));
    }
}

#[test]
fn what_is_not_on_the_lists_is_refused_in_every_mode() {
    let after = |bytes: &[u8]| [HANDSHAKE, bytes].concat();
    let long = clipboard(&vec![b'x'; LONGEST_CLIPBOARD as usize + 1]);
    let mut cases: Vec<(Vec<u8>, Refusal)> = vec![
        (b"RFB 003.003\n".to_vec(), Refusal::Version),
        (b"GET / HTTP/1.1".to_vec(), Refusal::Version),
        (b"RFB 003.008\n\x10".to_vec(), Refusal::Security),
        (b"RFB 003.008\n\x13".to_vec(), Refusal::Security),
        (b"RFB 003.008\n\x00".to_vec(), Refusal::Security),
        (after(&long), Refusal::Clipboard),
        (after(&[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xf0]), Refusal::ExtendedClipboard),
        (after(&[2, 0, 0, 129]), Refusal::List),
        (after(&[251, 0, 4, 0, 3, 0, 17, 0]), Refusal::List),
        (after(&[255, 1, 0, 0]), Refusal::Message(255)),
    ];
    let known = [0, 2, 3, 4, 5, 6, 251, 255];
    for kind in (0..=255).filter(|kind| !known.contains(kind)) {
        cases.push((after(&[kind, 0, 0, 0, 0, 0, 0, 0]), Refusal::Message(kind)));
    }
    for (input, refusal) in cases {
        for (view, size) in [(false, usize::MAX), (true, usize::MAX), (false, 1)] {
            let (out, result) = run(view, &input, size);
            assert_eq!(result, Err(refusal));
            assert!(out.len() <= HANDSHAKE.len(), "{refusal}: {out:x?}");
        }
    }
}

#[test]
fn the_longest_clipboard_passes_without_being_held() {
    let text = clipboard(&vec![b'x'; LONGEST_CLIPBOARD as usize]);
    let (mut filter, mut out) = (Filter::new(false), Vec::new());
    filter.pass(HANDSHAKE, &mut out).unwrap();
    for piece in text.chunks(1000) {
        filter.pass(piece, &mut out).unwrap();
        assert!(filter.held.len() < 8);
    }
    assert_eq!(out, [SHAKEN, &text].concat());
}

#[test]
fn encodings_that_open_other_messages_are_left_out() {
    let extended_clipboard = i32::from_be_bytes(0xc0a1_e5ce_u32.to_be_bytes());
    let asked = [7, extended_clipboard, -259, -312, -313, -309, 0x574d_5664, -28, -250, -239];
    let kept = [7, 0x574d_5664, -28, -250, -239];
    let input = [HANDSHAKE, &encodings(&asked)].concat();
    assert_eq!(run(true, &input, 3), ([SHAKEN, &encodings(&kept)].concat(), Ok(())));
}

#[test]
fn what_is_held_is_bounded_whatever_comes() {
    let (mut filter, mut out) = (Filter::new(false), Vec::new());
    filter.pass(HANDSHAKE, &mut out).unwrap();
    filter.pass(&[2, 0, 0, 128], &mut out).unwrap();
    for _ in 0..511 {
        filter.pass(&[0], &mut out).unwrap();
        assert!(filter.held.len() <= 4 + 4 * MOST_ENCODINGS);
    }
    filter.pass(&[0], &mut out).unwrap();
    assert!(filter.held.is_empty());
}
