//! Content, back-pressure and memory under load.

use rand::{Rng as _, RngCore as _, SeedableRng as _};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

use crate::browser::{Browser, frame};
use crate::stack::Stack;

/// Random bytes in frames of random sizes, written in pieces of random sizes; their hash.
async fn send_random(
    stream: &mut (impl tokio::io::AsyncWrite + Unpin),
    total: usize,
    seed: u64,
) -> [u8; 32] {
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let (mut hash, mut sent, mut wire) = (Sha256::new(), 0, Vec::new());
    while sent < total {
        let length = match random.random_range(0..10) {
            0..4 => random.random_range(0..130),
            4..9 => random.random_range(0..20_000),
            _ => random.random_range(0..400_000),
        };
        let mut payload = vec![0; length.min(total - sent)];
        random.fill_bytes(&mut payload);
        hash.update(&payload);
        sent += payload.len();
        wire.extend(frame(0x82, &payload));
        let now = random.random_range(0..=wire.len());
        stream.write_all(&wire[..now]).await.unwrap();
        wire.drain(..now);
    }
    wire.extend(frame(0x89, b"end"));
    stream.write_all(&wire).await.unwrap();
    stream.flush().await.unwrap();
    hash.finalize().into()
}

/// Through an echoing guest, so each byte goes both ways.
async fn both_ways(stack: &Stack, total: usize, seed: u64) {
    let Browser { stream, head } = stack.open("echo").await;
    let (read, mut write) = tokio::io::split(stream);
    let sender = tokio::spawn(async move { (send_random(&mut write, total, seed).await, write) });
    let (mut hash, mut received) = (Sha256::new(), 0);
    let mut reader = Reader { read, head };
    while received < total {
        let (first, payload) = reader.next().await;
        if first == 0x82 {
            hash.update(&payload);
            received += payload.len();
        }
    }
    let (sent, _write) = sender.await.unwrap();
    assert_eq!(<[u8; 32]>::from(hash.finalize()), sent);
}

struct Reader<R> {
    read: R,
    #[expect(dead_code, reason = "kept for a debugger")]
    head: String,
}

impl<R: tokio::io::AsyncRead + Unpin> Reader<R> {
    async fn next(&mut self) -> (u8, Vec<u8>) {
        use tokio::io::AsyncReadExt as _;
        let first = self.read.read_u8().await.unwrap();
        let length = match self.read.read_u8().await.unwrap() {
            126 => usize::from(self.read.read_u16().await.unwrap()),
            127 => self.read.read_u64().await.unwrap() as usize,
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.read.read_exact(&mut payload).await.unwrap();
        (first, payload)
    }
}

#[tokio::test]
async fn random_bytes_in_random_pieces_arrive_as_they_were() {
    let stack = Stack::start().await;
    // Ten at a time, so that reads of one session fall between those of others.
    let all = (0..10).map(|seed| both_ways(&stack, 512 << 10, seed));
    futures_util::future::join_all(all).await;
}

/// 1 GiB each way; `cargo test --release -p vnc-proxy -- --ignored` (a minute).
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a gigabyte each way takes long in a debug build; run it with `--release -- --ignored`"]
async fn a_gigabyte_each_way_arrives_as_it_was() {
    let stack = Stack::start().await;
    both_ways(&stack, 1 << 30, 1).await;
}

#[tokio::test]
async fn stalled_readers_and_stalled_guests_cost_a_bounded_tail() {
    let stack = Stack::start().await;
    let before = stack.memory_kib();
    let mut stalled = Vec::new();
    for _ in 0..200 {
        stalled.push(stack.open("flood").await);
    }
    let settled = settle(&stack).await;
    let each = (settled - before) / 200;
    println!("{each} KiB a stalled reader");
    assert!(each < 256, "{each} KiB a session");
    // The others are not held up.
    let mut browser = stack.open("echo").await;
    browser.binary(b"quick").await;
    assert_eq!(browser.bytes(5).await, b"quick");
    drop(stalled);
    stack.until("all are gone", || stack.agent.open() == 1).await;

    // The other way: a guest that takes nothing stops the browser and not the proxy.
    let mut deaf = stack.open("deaf").await;
    let before = stack.memory_kib();
    let flood = frame(0x82, &vec![0; 64 << 10]);
    let send = async {
        for _ in 0..4096 {
            deaf.send(&flood).await;
        }
    };
    assert!(tokio::time::timeout(std::time::Duration::from_secs(2), send).await.is_err());
    assert!(stack.memory_kib() < before + 4096, "{} KiB", stack.memory_kib());
}

/// Memory once it does not grow any more.
async fn settle(stack: &Stack) -> u64 {
    let mut last = stack.memory_kib();
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let now = stack.memory_kib();
        if now <= last + 256 {
            return now;
        }
        last = now;
    }
}
