use std::io::Write as _;

use super::*;

fn gold(uri: &str) -> GoldImage {
    serde_json::from_value(serde_json::json!({"name": "g", "arch": "x86_64", "uri": uri})).unwrap()
}

#[tokio::test]
async fn an_image_is_imported_once_and_again_when_its_origin_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (source, store) = (dir.path().join("src"), dir.path().join("store"));
    fs_err::create_dir(&source).unwrap();
    let file = source.join("g.raw");
    fs_err::write(&file, vec![7; 4096]).unwrap();
    let images = Images::new(store.clone(), vec![source.clone()]).unwrap();
    let lines = Mutex::new(0);
    let tell = |_: String| *lines.lock().unwrap() += 1;
    let gold_record = gold(file.to_str().unwrap());
    let (a, b) =
        tokio::join!(images.ensure(&gold_record, &tell), images.ensure(&gold_record, &tell));
    assert_eq!(a.unwrap(), b.unwrap());
    assert_eq!(*lines.lock().unwrap(), 1);
    fs_err::write(&file, vec![8; 8192]).unwrap();
    assert_eq!(images.ensure(&gold_record, &tell).await.unwrap().virtual_size, 8192);
    assert_eq!(*lines.lock().unwrap(), 2);
}

#[tokio::test]
async fn bad_origins_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (source, store) = (dir.path().join("src"), dir.path().join("store"));
    fs_err::create_dir(&source).unwrap();
    fs_err::write(source.join("odd"), b"x").unwrap();
    fs_err::write(dir.path().join("outside.raw"), vec![0; 512]).unwrap();
    std::os::unix::fs::symlink(dir.path().join("outside.raw"), source.join("link.raw")).unwrap();
    let images = Images::new(store.clone(), vec![source.clone()]).unwrap();
    let at = |name: &str| source.join(name).to_string_lossy().into_owned();
    for (uri, status) in [
        (at("odd"), 422),
        (at("absent"), 422),
        (at("link.raw"), 422),
        (at("../outside.raw"), 422),
        ("relative.raw".into(), 422),
        ("file:///etc/passwd".into(), 422),
        ("http://127.0.0.1:1/x".into(), 422),
        ("ssh://g@127.0.0.1/x".into(), 422),
    ] {
        let problem = images.ensure(&gold(&uri), &|_| {}).await.expect_err(&uri);
        assert_eq!(problem.status, status, "{uri}: {problem}");
    }
    fs_err::write(source.join("good"), vec![1; 512]).unwrap();
    let mut pinned = gold(&at("good"));
    pinned.sha256 = Some("00".repeat(32));
    assert_eq!(images.ensure(&pinned, &|_| {}).await.unwrap_err().code, ErrorCode::UnfitImage);
    assert_eq!(fs_err::read_dir(&store).unwrap().count(), 0);
}

#[tokio::test]
async fn an_image_that_was_cut_off_is_told_from_a_whole_one() {
    let dir = tempfile::tempdir().unwrap();
    let (source, store) = (dir.path().join("src"), dir.path().join("store"));
    fs_err::create_dir(&source).unwrap();
    let raw: Vec<u8> =
        (0..4_u32 << 20).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    fs_err::write(source.join("raw"), raw).unwrap();
    let done = std::process::Command::new("qemu-img")
        .args(["convert", "-f", "raw", "-O", "qcow2", "raw", "whole"])
        .current_dir(&source)
        .status();
    assert!(done.unwrap().success());
    let whole = fs_err::read(source.join("whole")).unwrap();
    fs_err::write(source.join("cut"), &whole[..whole.len() / 2]).unwrap();
    let images = Images::new(store.clone(), vec![source.clone()]).unwrap();
    let at = |name: &str| gold(source.join(name).to_str().unwrap());
    let problem = images.ensure(&at("cut"), &|_| {}).await.unwrap_err();
    assert_eq!((problem.status, problem.code), (422, ErrorCode::UnfitImage), "{problem}");
    assert_eq!(fs_err::read_dir(&store).unwrap().count(), 0);
    images.ensure(&at("whole"), &|_| {}).await.unwrap();
}

/// An origin that serves `body` once per connection as `answer` makes it, and says what it was asked.
struct Origin {
    address: std::net::SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Origin {
    fn new(answer: impl Fn(usize, &str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for (number, connection) in listener.incoming().enumerate() {
                let mut connection = connection.unwrap();
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap() > 0 {
                    request.push(byte[0]);
                }
                let request = String::from_utf8(request).unwrap().to_lowercase();
                log.lock().unwrap().push(request.clone());
                // The client may have gone: that is its business.
                drop(connection.write_all(&answer(number, &request)));
            }
        });
        Self { address, asked }
    }

    fn uri(&self) -> String {
        format!("http://{}/gold.raw", self.address)
    }

    fn images(&self, dir: &Path, more: &[&str]) -> Images {
        let mut allow = vec![self.address.to_string()];
        allow.extend(more.iter().map(|entry| (*entry).to_owned()));
        let origins = Origins { allow, max_bytes: 1 << 20, ..Origins::default() };
        Images::new(dir.join("store"), Vec::new()).unwrap().with_origins(origins)
    }
}

fn ok(headers: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let head =
        format!("HTTP/1.1 {headers}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let body: Vec<u8> = (0..8192_u32).map(|n| (n % 251) as u8).collect();
    let whole = body.clone();
    let origin = Origin::new(move |number, _| match number {
        0 => ok("200 OK\r\netag: \"v1\"", 8192, &whole[..3000]),
        1 => b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec(),
        _ => ok("206 Partial Content\r\netag: \"v1\"", 5192, &whole[3000..]),
    });
    let base = origin.images(dir.path(), &[]).ensure(&gold(&origin.uri()), &|_| {}).await.unwrap();
    assert_eq!(fs_err::read(&base.path).unwrap(), body);
    let asked = origin.asked.lock().unwrap().clone();
    assert!(!asked[0].contains("range:"));
    assert!(asked[2].contains("range: bytes=3000-") && asked[2].contains("if-range: \"v1\""));
}

#[tokio::test]
async fn another_version_in_between_is_taken_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::new(|number, _| match number {
        0 => ok("200 OK\r\netag: \"v1\"", 2048, &[1; 512]),
        _ => ok("200 OK\r\netag: \"v2\"", 1024, &[2; 1024]),
    });
    let base = origin.images(dir.path(), &[]).ensure(&gold(&origin.uri()), &|_| {}).await.unwrap();
    assert_eq!(fs_err::read(&base.path).unwrap(), vec![2; 1024]);
}

#[tokio::test]
async fn redirects_are_judged_like_the_first_place() {
    let dir = tempfile::tempdir().unwrap();
    let target = Origin::new(|_, _| ok("200 OK", 512, &[3; 512]));
    let to = target.uri();
    let origin = Origin::new(move |_, _| ok(&format!("302 Found\r\nlocation: {to}"), 0, b""));
    let refused = origin.images(dir.path(), &[]).ensure(&gold(&origin.uri()), &|_| {}).await;
    assert_eq!(refused.unwrap_err().status, 422);
    assert!(
        target.asked.lock().unwrap().is_empty(),
        "nothing is asked of an origin before it is judged"
    );
    let listed = target.address.to_string();
    let images = origin.images(dir.path(), &[&listed]);
    assert!(images.ensure(&gold(&origin.uri()), &|_| {}).await.is_ok());
    let trap = Origin::new(|_, _| ok("302 Found\r\nlocation: http://169.254.169.254/x", 0, b""));
    let images = trap.images(dir.path(), &["169.254.169.254"]);
    assert_eq!(images.ensure(&gold(&trap.uri()), &|_| {}).await.unwrap_err().status, 422);
    let round = Origin::new(|_, _| ok("302 Found\r\nlocation: /gold.raw", 0, b""));
    let images = round.images(dir.path(), &[]);
    assert_eq!(images.ensure(&gold(&round.uri()), &|_| {}).await.unwrap_err().status, 502);
    assert_eq!(round.asked.lock().unwrap().len(), 6);
}

#[tokio::test]
async fn an_image_that_is_too_large_or_absent_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let huge = Origin::new(|_, _| ok("200 OK", 2 << 20, &vec![0; 2 << 20]));
    let images = huge.images(dir.path(), &[]);
    let problem = images.ensure(&gold(&huge.uri()), &|_| {}).await.unwrap_err();
    assert_eq!(problem.code, ErrorCode::UnfitImage, "{problem}");
    let absent = Origin::new(|_, _| ok("404 Not Found", 0, b""));
    let images = absent.images(dir.path(), &[]);
    assert_eq!(images.ensure(&gold(&absent.uri()), &|_| {}).await.unwrap_err().status, 502);
    assert_eq!(absent.asked.lock().unwrap().len(), 1, "a 404 is not asked for again");
    assert_eq!(fs_err::read_dir(dir.path().join("store")).unwrap().count(), 0);
}
