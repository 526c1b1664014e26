//! A look at an ISO that QEMU will read from a web server itself.
//!
//! QEMU looks names up again at every start, and follows redirects without asking us: so the origin
//! must be one that the operator listed, must not point to addresses that no image comes from, and
//! must not redirect now. Who may change what it does later is who runs it.

use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};
use vmmgr_common::error::{Chain, ErrorCode, Problem};

use super::label;
use super::origin::Origins;
use crate::domain::cdrom::NetworkIso;

/// How long a server may take for the beginning of a file.
const WITHIN: Duration = Duration::from_secs(10);

fn failed(iso: &NetworkIso, why: &str) -> Problem {
    Problem::new(ErrorCode::OriginFailed, format!("ISO {}: {why}", iso.url))
}

/// Looks whether QEMU can use it as a medium, and that it is no seed for cloud-init.
pub(crate) async fn look(origins: &Origins, iso: &NetworkIso) -> Result<(), Problem> {
    let response = ask(origins, iso).await?;
    match response.status() {
        StatusCode::PARTIAL_CONTENT => {}
        StatusCode::OK => {
            return Err(failed(iso, "its server does not answer with parts of a file")
                .hint("QEMU reads a medium in parts (Range): use a server that serves them"));
        }
        status if status.is_redirection() => {
            return Err(failed(iso, "its server redirects").hint("name the last place instead"));
        }
        status => return Err(failed(iso, &format!("its server answered {status}"))),
    }
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let total = range.and_then(|range| range.rsplit_once('/')?.1.parse::<u64>().ok());
    if total.is_none_or(|total| total == 0) {
        return Err(failed(iso, "its server does not say how large it is"));
    }
    let head = head(response)
        .await
        .map_err(|error| failed(iso, &Chain(&error.without_url()).to_string()))?;
    if label::is_seed_head(&head) {
        let detail =
            format!("ISO {} is a seed for cloud-init, which may not be put into a guest", iso.url);
        return Err(Problem::new(ErrorCode::InvalidValue, detail)
            .hint("the guest's own seed is the medium `seed`"));
    }
    Ok(())
}

async fn ask(origins: &Origins, iso: &NetworkIso) -> Result<Response, Problem> {
    let url = origins.judge(&iso.url.to_string())?;
    let address = origins.resolve(&url).await?;
    // Without `ca` of [origins]: QEMU knows the system's certificates only.
    let client = Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(WITHIN)
        .resolve(url.host_str().unwrap_or_default(), address)
        .tls_danger_accept_invalid_certs(!iso.tls_verify)
        .build()
        .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?;
    let wanted = format!("bytes=0-{}", label::HEAD - 1);
    client.get(url).header(RANGE, wanted).send().await.map_err(|error| {
        let problem = failed(iso, &Chain(&error.without_url()).to_string());
        if iso.url.is_tls() && iso.tls_verify {
            return problem.hint(
                "QEMU trusts the certificates of the host's system: add the server's CA there, \
                 or set `tls_verify` to false",
            );
        }
        problem
    })
}

/// What it begins with; a server that sends more than it was asked for is not listened to.
async fn head(response: Response) -> Result<Vec<u8>, reqwest::Error> {
    let (mut head, mut body) = (Vec::new(), response.bytes_stream());
    while let Some(bytes) = body.next().await {
        head.extend_from_slice(&bytes?);
        if head.len() >= label::HEAD {
            break;
        }
    }
    head.truncate(label::HEAD);
    Ok(head)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::sync::OnceLock;

    use vmmgr_common::api::iso::IsoUrl;

    use super::*;

    /// A web server of ISOs, one for all tests of this process.
    pub(crate) struct Server {
        pub(crate) address: SocketAddr,
    }

    fn image(label: &str) -> Vec<u8> {
        let mut image = vec![0_u8; 80 << 10];
        image[16 * 2048 + 1..][..5].copy_from_slice(b"CD001");
        image[16 * 2048 + 40..][..label.len()].copy_from_slice(label.as_bytes());
        image
    }

    fn answer(request: &str, to: &mut TcpStream) -> std::io::Result<()> {
        let part = |image: &[u8]| {
            let end = image.len().min(label::HEAD);
            let head = format!(
                "HTTP/1.1 206 Partial\r\ncontent-range: bytes 0-{}/{}\r\ncontent-length: {end}\r\n\r\n",
                end - 1,
                image.len()
            );
            [head.as_bytes(), &image[..end]].concat()
        };
        assert!(request.contains("range: bytes=0-65535"), "{request}");
        let bytes = match request.split(' ').nth(1).unwrap() {
            "/good.iso" | "/better.iso" => part(&image("TOOLS")),
            "/seed.iso" => part(&image("cidata")),
            "/whole.iso" => b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd".to_vec(),
            "/moved.iso" => b"HTTP/1.1 302 Found\r\nlocation: /good.iso\r\ncontent-length: 0\r\n\r\n".to_vec(),
            "/sizeless.iso" => b"HTTP/1.1 206 Partial\r\ncontent-range: bytes 0-3/*\r\ncontent-length: 4\r\n\r\nabcd".to_vec(),
            "/broken.iso" => b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".to_vec(),
            "/endless.iso" => {
                to.write_all(b"HTTP/1.1 206 Partial\r\ncontent-range: bytes 0-65535/70000\r\n\r\n")?;
                loop {
                    to.write_all(&[0; 4096])?;
                }
            }
            _ => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
        };
        to.write_all(&bytes)
    }

    fn serve(mut connection: TcpStream) {
        let (mut request, mut byte) = (Vec::new(), [0]);
        while !request.ends_with(b"\r\n\r\n") {
            match connection.read(&mut byte) {
                Ok(1) => request.push(byte[0]),
                _ => return,
            }
        }
        let request = String::from_utf8(request).unwrap().to_lowercase();
        // The client may have gone: that is its business.
        drop(answer(&request, &mut connection));
    }

    impl Server {
        pub(crate) fn shared() -> &'static Self {
            static SERVER: OnceLock<Server> = OnceLock::new();
            SERVER.get_or_init(Self::start)
        }

        fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            std::thread::spawn(move || {
                for connection in listener.incoming() {
                    let connection = connection.unwrap();
                    // A client that says nothing keeps nobody else waiting.
                    std::thread::spawn(move || serve(connection));
                }
            });
            Self { address }
        }

        pub(crate) fn url(&self, name: &str) -> IsoUrl {
            IsoUrl::parse(&format!("http://{}/{name}.iso", self.address)).unwrap()
        }

        pub(crate) fn origins(&self) -> Origins {
            Origins { allow: vec![self.address.to_string()], ..Origins::default() }
        }
    }

    #[tokio::test]
    async fn a_medium_is_what_qemu_can_use_and_what_is_no_seed() {
        let server = Server::shared();
        let look = async |name: &str| {
            let iso = NetworkIso { url: server.url(name), tls_verify: true };
            super::look(&server.origins(), &iso).await
        };
        look("good").await.unwrap();
        look("endless").await.unwrap();
        for (name, status, why) in [
            ("seed", 422, "a seed for cloud-init"),
            ("whole", 502, "parts of a file"),
            ("moved", 502, "redirects"),
            ("sizeless", 502, "how large"),
            ("broken", 502, "500"),
            ("absent", 502, "404"),
        ] {
            let problem = look(name).await.unwrap_err();
            assert_eq!(problem.status, status, "{problem}");
            assert!(problem.detail.contains(why) && problem.detail.contains(name), "{problem}");
        }
    }

    #[tokio::test]
    async fn only_servers_that_are_listed_are_asked() {
        let server = Server::shared();
        let iso = |url: &str| NetworkIso { url: IsoUrl::parse(url).unwrap(), tls_verify: true };
        let good = iso(&server.url("good").to_string());
        let refused = super::look(&Origins::default(), &good).await.unwrap_err();
        assert_eq!(refused.status, 422);
        assert!(refused.hint.unwrap().contains("[origins]"));
        let trick = Origins { allow: vec!["169.254.169.254".into()], ..Origins::default() };
        let refused = super::look(&trick, &iso("http://169.254.169.254/x.iso")).await.unwrap_err();
        assert_eq!(refused.status, 422);
        // Nobody speaks TLS there; the hint tells how certificates are judged.
        let tls = iso(&format!("https://{}/good.iso", server.address));
        let refused = super::look(&server.origins(), &tls).await.unwrap_err();
        assert_eq!((refused.status, refused.code), (502, ErrorCode::OriginFailed));
        assert!(refused.hint.unwrap().contains("tls_verify"));
    }
}
