//! Servers that do not do their part. A real one is asked in `tests/tests/e2e/directory.rs`.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use vmmgr_common::testing::free_address;

use super::*;

fn directory(address: std::net::SocketAddr) -> Directory {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ldap.toml");
    let text = format!(
        "url = 'ldap://{address}'\nstart_tls = false\ntimeout_seconds = 1\n\
         bind_dn = 'uid={{}},ou=people'\n[groups]\nadmin = ['cn=admins']\n"
    );
    fs_err::write(&path, text).unwrap();
    Directory::open(&vmmgr_common::config::load(&path).unwrap()).unwrap()
}

async fn ask(directory: &Directory, password: &str) -> Result<Verdict, Problem> {
    directory.ask("bob", &Secret::new(password.to_owned())).await
}

/// Answers every connection with `answer` once it has read something, and counts them.
async fn server(
    answer: &'static [u8],
) -> (std::net::SocketAddr, tokio::sync::watch::Receiver<u32>) {
    let listener = TcpListener::bind(free_address()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (count, counted) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.send_modify(|count| *count += 1);
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, counted)
}

#[tokio::test]
async fn a_directory_that_says_nothing_is_given_up_in_time() {
    let (silent, _) = server(b"").await;
    let start = Instant::now();
    let problem = ask(&directory(silent), "secret").await.unwrap_err();
    assert_eq!((problem.status, problem.code), (503, ErrorCode::DirectoryUnreachable));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn nobody_there_and_nonsense_are_no_refusals() {
    let problem = ask(&directory(free_address()), "secret").await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::DirectoryUnreachable);
    for nonsense in
        [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"\x30\x84\xff\xff\xff\xff", &[0; 64]]
    {
        let (odd, _) = server(nonsense).await;
        let problem = ask(&directory(odd), "secret").await.unwrap_err();
        assert_eq!(problem.code, ErrorCode::DirectoryUnreachable, "{nonsense:?}");
    }
    // BindResponse of message 1: busy (51). Nobody may take this for a wrong password.
    let (busy, _) = server(b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x33\x04\x00\x04\x00").await;
    assert_eq!(ask(&directory(busy), "secret").await.unwrap_err().status, 503);
}

/// RFC 4513, 5.1.2: it would succeed as nobody.
#[tokio::test]
async fn no_password_never_reaches_the_server() {
    let (eager, counted) =
        server(b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00").await;
    let directory = directory(eager);
    assert_eq!(ask(&directory, "").await.unwrap(), Verdict::Refused);
    assert_eq!(ask(&directory, &"x".repeat(1025)).await.unwrap(), Verdict::Refused);
    assert_eq!(*counted.borrow(), 0);
    // A password does; this server then says nothing of groups.
    assert_eq!(ask(&directory, "secret").await.unwrap_err().status, 503);
    assert_eq!(*counted.borrow(), 1);
}
