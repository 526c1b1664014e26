use super::*;

const TICKET: &str = "abcdefghijklmnopqrstuvwxyz-_0189";

fn origins() -> Origins {
    Origins::parse(&["https://vmm.registry.local".to_owned()]).unwrap()
}

/// A request as a browser sends it through nginx, with `change` applied to its text.
fn ask(path: &str, change: impl Fn(String) -> String) -> Result<Opening, Problem> {
    let text = format!(
        "GET {path} HTTP/1.1\r\nHost: vmm.registry.local\r\nUpgrade: websocket\r\n\
         Connection: upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Version: 13\r\nOrigin: https://vmm.registry.local\r\n\
         Sec-WebSocket-Protocol: binary, vmmgr.ticket.{TICKET}\r\n\
         X-Forwarded-For: 192.0.2.7\r\nX-Request-Id: r1\r\n\r\n"
    );
    let text = change(text);
    let head = read(text.as_bytes(), &origins()).unwrap();
    assert!(head.opening.is_err() || (head.length, &*head.request_id) == (text.len(), "r1"));
    head.opening
}

fn console(change: impl Fn(String) -> String) -> Result<Opening, Problem> {
    ask("/console/ws", change)
}

/// noVNC's `vnc_lite.html`, which offers no subprotocol.
fn compat(query: &str) -> Result<Opening, Problem> {
    let offer = format!("Sec-WebSocket-Protocol: binary, vmmgr.ticket.{TICKET}\r\n");
    ask(&format!("/websockify/?{query}"), |text| text.replace(&offer, ""))
}

#[test]
fn the_ways_to_bring_a_ticket() {
    let opening = ask("/console/ws?from=5", |text| text).unwrap();
    assert_eq!(opening.ticket.expose(), TICKET);
    assert_eq!((opening.from, opening.address.as_str()), (Some(5), "192.0.2.7"));
    let answer = opening.accepted("r1");
    // The example of RFC 6455.
    assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
    assert!(answer.contains("Sec-WebSocket-Protocol: binary\r\n") && !answer.contains(TICKET));

    let opening = compat(&format!("token={TICKET}")).unwrap();
    assert_eq!(opening.ticket.expose(), TICKET);
    assert!(!opening.accepted("r1").contains("Protocol:"));
}

#[test]
fn takeover_by_a_doubled_encoded_or_mixed_case_token_is_refused() {
    let other = "zyxwvutsrqponmlkjihgfedcba-_9810";
    for query in [
        format!("token={TICKET}&token={other}"),
        format!("token={TICKET}&token={TICKET}"),
        format!("token={TICKET}&Token={other}"),
        format!("Token={TICKET}"),
        format!("TOKEN={TICKET}"),
        format!("token={TICKET}&%74oken={other}"),
        format!("%74oken={TICKET}"),
        format!("token%3d{TICKET}"),
        format!("token={TICKET};token={other}"),
        format!("token={TICKET}&token[]={other}"),
        format!("token={TICKET}&path=websockify%3ftoken%3d{other}"),
        format!("token={TICKET}#token={other}"),
        format!("?token={TICKET}"),
        format!("token={TICKET}%00"),
        format!("token={TICKET}+"),
        String::new(),
    ] {
        assert!(compat(&query).is_err(), "{query}");
    }
    // A token in the URL is for the compatible route only, and never beside another one.
    assert!(ask(&format!("/console/ws?token={TICKET}"), |text| text).is_err());
    assert_eq!(ask(&format!("/websockify/?token={other}"), |text| text).unwrap_err().status, 400);
}

#[test]
fn a_foreign_origin_is_refused() {
    let with = |origin: &str| {
        let origin = origin.to_owned();
        console(move |text| text.replace("Origin: https://vmm.registry.local\r\n", &origin))
    };
    for origin in [
        "Origin: https://evil.example\r\n",
        "Origin: http://vmm.registry.local\r\n",
        "Origin: https://vmm.registry.local:8443\r\n",
        "Origin: https://vmm.registry.local.evil.example\r\n",
        "Origin: https://VMM.registry.local\r\n",
        "Origin: https://vmm.registry.local/\r\n",
        "Origin: null\r\n",
        "Origin:\r\n",
        "Origin: https://vmm.registry.local\r\nOrigin: https://evil.example\r\n",
    ] {
        assert_eq!(with(origin).unwrap_err().status, 403, "{origin}");
    }
    // No browser: only where a page of another site could not have made the request.
    assert!(with("").is_ok());
    let offer = format!("Sec-WebSocket-Protocol: binary, vmmgr.ticket.{TICKET}\r\n");
    let plain = ask(&format!("/websockify/?token={TICKET}"), |text| {
        text.replace(&offer, "").replace("Origin: https://vmm.registry.local\r\n", "")
    });
    assert_eq!(plain.unwrap_err().status, 403);
}

#[test]
fn what_is_no_websocket_is_told_what_is_wrong() {
    let change = |from: &'static str, to: &'static str| {
        console(move |text| text.replace(from, to)).unwrap_err().status
    };
    assert_eq!(change("GET", "POST"), 405);
    assert_eq!(change("/console/ws", "/console/other"), 404);
    assert_eq!(change("/console/ws", "//console/ws"), 404);
    assert_eq!(change("HTTP/1.1", "HTTP/1.0"), 400);
    assert_eq!(change("Upgrade: websocket\r\n", ""), 400);
    assert_eq!(change("Connection: upgrade", "Connection: close"), 400);
    assert_eq!(change("Version: 13", "Version: 8"), 400);
    assert_eq!(change("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400);
    assert_eq!(change("Host:", "Content-Length: 5\r\nHost:"), 400);
    assert_eq!(change("Host:", "Transfer-Encoding: chunked\r\nHost:"), 400);
    assert_eq!(change("binary, ", ""), 400);
    assert_eq!(change("binary, ", "base64, "), 400);
    assert_eq!(change(", vmmgr.ticket.abcdefghijklmnopqrstuvwxyz-_0189", ""), 401);
    assert_eq!(change("Host:", "X-Forwarded-For: 192.0.2.8\r\nHost:"), 400);
    assert_eq!(change("GET /", "\u{1}"), 400);
}

#[test]
fn a_head_comes_in_pieces_but_not_for_ever() {
    let head = b"GET /console/ws HTTP/1.1\r\nHost: x";
    assert!((0..head.len()).all(|end| read(&head[..end], &origins()).is_none()));
    let long = [head.as_slice(), &[b'x'; LARGEST_HEAD]].concat();
    assert_eq!(read(&long, &origins()).unwrap().opening.unwrap_err().status, 413);
}

#[test]
fn a_refusal_is_a_problem_with_the_request_id() {
    let problem = Problem::new(ErrorCode::Unauthenticated, "used");
    let text = refused(&problem, "r1");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
    let parsed: Problem = serde_json::from_str(body).unwrap();
    assert_eq!(parsed.request_id.as_deref(), Some("r1"));
}
