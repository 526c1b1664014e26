//! What must hold whatever comes in; for the fuzzer, and for its seeds as plain tests.

use vnc_proxy::frame::{Control, Unframer, Violation};
use vnc_proxy::request::{self, Origins};
use vnc_proxy::rfb::{Filter, Refusal};
use vnc_proxy::ticket;

type Frames = (Vec<u8>, Vec<Control>, Result<(), Violation>);

fn unframe(bytes: &[u8], piece: usize) -> Frames {
    let (mut unframer, mut payload, mut controls) = (Unframer::default(), Vec::new(), Vec::new());
    for chunk in bytes.chunks(piece) {
        let mut chunk = chunk.to_vec();
        let (length, result) = unframer.unframe(&mut chunk, |control| controls.push(control));
        payload.extend_from_slice(&chunk[..length]);
        let over = controls.iter().any(|control| matches!(control, Control::Close(_)));
        if result.is_err() || over {
            return (payload, controls, result);
        }
    }
    (payload, controls, Ok(()))
}

/// Frames mean the same however they are cut; the first byte tells how.
pub(crate) fn frames(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let whole = unframe(bytes, usize::MAX);
    let cut = unframe(bytes, usize::from(*piece).max(1));
    assert_eq!((&whole.1, &whole.2), (&cut.1, &cut.2));
    match whole.2 {
        // Text is refused with all that came of it at once.
        Err(Violation::Utf8) => assert!(cut.0.starts_with(&whole.0)),
        _ => assert_eq!(whole.0, cut.0),
    }
    assert!(whole.0.len() <= bytes.len());
    for control in &whole.1 {
        if let Control::Ping(payload) = control {
            assert!(payload.len() <= 125);
        }
    }
}

fn filter(view: bool, bytes: &[u8], piece: usize) -> (Vec<u8>, Result<(), Refusal>) {
    let (mut filter, mut out) = (Filter::new(view), Vec::new());
    for chunk in bytes.chunks(piece) {
        if let Err(refusal) = filter.pass(chunk, &mut out) {
            return (out, Err(refusal));
        }
    }
    (out, Ok(()))
}

/// What gets through does not depend on the cut, and gets through again as it is: so it is all
/// on the lists. The first byte tells the mode and the cut.
pub(crate) fn rfb(data: &[u8]) {
    let Some((first, bytes)) = data.split_first() else { return };
    let (view, piece) = (first & 1 == 1, usize::from(first >> 1).max(1));
    let (out, result) = filter(view, bytes, usize::MAX);
    assert_eq!((out.clone(), result), filter(view, bytes, piece));
    assert_eq!(filter(view, &out, usize::MAX), (out, Ok(())));
}

/// A query is taken only if it is its own one spelling; a head is read or refused, once.
pub(crate) fn tickets(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(query) = ticket::query(text, &["token", "from"]) {
        let pairs: Vec<&str> = text.split('&').filter(|pair| !pair.is_empty()).collect();
        assert_eq!(
            pairs.len(),
            usize::from(query.ticket.is_some()) + usize::from(query.from.is_some())
        );
        if let Some(ticket) = &query.ticket {
            assert!(pairs.contains(&format!("token={}", ticket.expose()).as_str()));
        }
    }
    if let Ok(found) = ticket::protocols([text].into_iter()) {
        let offers = text.matches("vmmgr.ticket.").count();
        assert!(found.ticket.is_none() || offers >= 1);
    }
    let Ok(origins) = Origins::parse(&["https://vmm.registry.local".to_owned()]) else { return };
    if let Some(head) = request::read(data, &origins) {
        assert!(head.length <= data.len());
        if let Ok(opening) = head.opening {
            assert!(text[..head.length].contains(opening.ticket.expose().as_str()));
        }
    }
}
