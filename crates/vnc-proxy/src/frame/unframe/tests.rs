use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as a browser sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        0..=125 => bytes.push(0x80 | payload.len() as u8),
        126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((payload.len() as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    let mut payload = payload.to_vec();
    unmask(&mut payload, MASK);
    bytes.extend(payload);
    bytes
}

type Read = (Vec<u8>, Vec<Control>, Result<(), Violation>);

/// All of `bytes`, `size` at a time.
fn read(bytes: &[u8], size: usize) -> Read {
    let (mut unframer, mut payload, mut controls) = (Unframer::default(), Vec::new(), Vec::new());
    for piece in bytes.chunks(size) {
        let mut piece = piece.to_vec();
        let (length, result) = unframer.unframe(&mut piece, |control| controls.push(control));
        payload.extend_from_slice(&piece[..length]);
        let over = controls.iter().any(|control| matches!(control, Control::Close(_)));
        if result.is_err() || over {
            return (payload, controls, result);
        }
    }
    (payload, controls, Ok(()))
}

#[test]
fn payload_is_the_same_however_the_input_is_cut() {
    let long: Vec<u8> = (0..70_000_u32).map(|n| n as u8).collect();
    let input = [
        frame(0x82, b""),
        frame(0x02, b"abc"),
        frame(0x89, b"are you there"),
        frame(0x00, &long[..200]),
        frame(0x8a, b""),
        frame(0x80, b"d"),
        frame(0x82, &long),
        frame(0x81, "ö".as_bytes()),
        frame(0x88, &[0x03, 0xe8, b'x']),
        frame(0x82, b"after the end"),
    ]
    .concat();
    let expected = [b"abc", &long[..200], b"d", &long, "ö".as_bytes()].concat();
    for size in (1..40).chain([4096, usize::MAX]) {
        let (payload, controls, result) = read(&input, size);
        assert_eq!(result, Ok(()));
        assert!(payload == expected, "in pieces of {size}");
        let ping = Control::Ping(b"are you there".to_vec());
        let close = Control::Close(Close { code: Some(1000) });
        assert_eq!(controls, [ping, Control::Pong, close]);
    }
}

#[test]
fn what_breaks_the_protocol_is_refused_and_what_came_before_counts() {
    let good = frame(0x82, b"good");
    let text = |bytes: &[u8]| frame(0x81, bytes);
    let close = |code: u16| frame(0x88, &code.to_be_bytes());
    let cases: Vec<(Vec<u8>, Violation)> = vec![
        (frame(0xc2, b""), Violation::ReservedBit),
        (frame(0xa2, b""), Violation::ReservedBit),
        (frame(0x92, b""), Violation::ReservedBit),
        (frame(0x83, b""), Violation::Opcode),
        (frame(0x87, b""), Violation::Opcode),
        (frame(0x8b, b""), Violation::Opcode),
        (frame(0x8f, b""), Violation::Opcode),
        (vec![0x82, 0x01, 0x00], Violation::Unmasked),
        (vec![0x82, 0xfe, 0, 125, 0, 0, 0, 0], Violation::Length),
        (vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0], Violation::Length),
        (vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Violation::Length),
        (vec![0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0], Violation::TooLarge),
        (frame(0x89, &[0; 126]), Violation::Control),
        (frame(0x09, b""), Violation::Control),
        (frame(0x08, b""), Violation::Control),
        (frame(0x80, b""), Violation::Fragments),
        ([frame(0x02, b""), frame(0x82, b"")].concat(), Violation::Fragments),
        ([frame(0x01, b""), frame(0x81, b"")].concat(), Violation::Fragments),
        (frame(0x88, &[3]), Violation::Close),
        (frame(0x88, &[3, 0xe8, 0xc3]), Violation::Utf8),
        (text(b"\xc3"), Violation::Utf8),
        (text(b"\xff"), Violation::Utf8),
        ([frame(0x01, b"\xe1"), frame(0x80, b"\xbd")].concat(), Violation::Utf8),
    ];
    let codes = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535];
    let codes = codes.into_iter().map(|code| (close(code), Violation::Close));
    for (bad, violation) in cases.into_iter().chain(codes) {
        let input = [good.clone(), bad].concat();
        for size in [1, 2, 3, 7, usize::MAX] {
            let (payload, _, result) = read(&input, size);
            assert_eq!(result, Err(violation), "{input:x?} in pieces of {size}");
            assert_eq!(&payload[..4], b"good");
        }
    }
}

#[test]
fn all_codes_that_may_be_sent_are_taken() {
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 3000, 3999, 4000, 4999]
    {
        let (_, controls, result) = read(&frame(0x88, &u16::to_be_bytes(code)), 1);
        assert_eq!((result, controls.len()), (Ok(()), 1), "{code}");
        assert_eq!(controls[0], Control::Close(Close { code: Some(code) }));
    }
}

#[test]
fn an_idle_session_costs_next_to_nothing() {
    assert!(size_of::<Unframer>() <= 96, "{}", size_of::<Unframer>());
}
