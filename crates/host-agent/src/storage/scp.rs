//! Gold images from a host that is reached by ssh: OpenSSH's scp in its SFTP mode, so that no shell
//! of the other side reads the path. The host's key must be known; nothing is asked.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;
use vmmgr_common::error::{ErrorCode, Problem};

use super::origin::Origins;

fn refuse(why: &str) -> Problem {
    Problem::new(ErrorCode::InvalidValue, format!("uri: {why}"))
}

/// Letters that mean the same to everybody: no globs, no options, no quoting.
fn plain(text: &str, extra: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
}

/// Arguments of scp for `ssh://user@host:port/path`.
fn arguments(
    origins: &Origins,
    uri: &str,
    address: &str,
    to: &Path,
) -> Result<Vec<String>, Problem> {
    let url = origins.judge(uri)?;
    let (Some(key), Some(known)) = (&origins.ssh_key, &origins.ssh_known_hosts) else {
        return Err(refuse("this host has no key for ssh origins")
            .hint("set ssh_key and ssh_known_hosts in [origins] of the agent's configuration"));
    };
    let (user, path) = (url.username(), url.path());
    if !plain(user, "._-") || !plain(path, "/._-+") || path.split('/').any(|part| part == "..") {
        return Err(refuse("expected ssh://user@host[:port]/path of letters, digits and ._-+/"));
    }
    let name = url.host_str().unwrap_or_default();
    let option = |text: String| ["-o".to_owned(), text];
    let mut all: Vec<String> = ["-B", "-s", "-F", "/dev/null"].map(str::to_owned).into();
    all.extend(["-i".to_owned(), key.to_string_lossy().into_owned()]);
    all.extend(["-P".to_owned(), url.port().unwrap_or(22).to_string()]);
    all.extend(option(format!("UserKnownHostsFile={}", known.display())));
    for fixed in [
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "IdentitiesOnly=yes",
        "PasswordAuthentication=no",
        "ConnectTimeout=10",
        "ServerAliveInterval=15",
    ] {
        all.extend(option(fixed.to_owned()));
    }
    // The key is looked for under the name, the connection goes to the address that was judged.
    all.extend(option(format!("HostKeyAlias={name}")));
    let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    all.extend(["--".to_owned(), format!("{user}@{address}:{path}")]);
    all.push(to.to_string_lossy().into_owned());
    Ok(all)
}

/// Copies the file behind `uri` to `to`.
pub(super) async fn copy(origins: &Origins, uri: &str, to: &Path) -> Result<(), Problem> {
    let url = origins.judge(uri)?;
    let address = origins.resolve(&url).await?.ip().to_string();
    let arguments = arguments(origins, uri, &address, to)?;
    let output = Command::new("scp")
        .args(&arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| Problem::new(ErrorCode::Internal, format!("cannot run scp: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let why = reason(&String::from_utf8_lossy(&output.stderr));
    Err(Problem::new(ErrorCode::OriginFailed, format!("gold image {uri}: {why}")))
}

/// What ssh and scp said, in a line: ssh tells the reason first, scp only that it is over.
fn reason(said: &str) -> String {
    let told: Vec<_> = said
        .lines()
        .map(|line| line.trim().trim_matches('@').trim())
        .filter(|line| !line.is_empty() && *line != "scp: Connection closed")
        .collect();
    let last = told[told.len().saturating_sub(3)..].join("; ");
    if last.is_empty() { "no reason given".to_owned() } else { last.escape_debug().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_what_ssh_said() {
        let denied = "root@10.0.0.9: Permission denied (publickey).\r\nscp: Connection closed\n";
        assert_eq!(reason(denied), "root@10.0.0.9: Permission denied (publickey).");
        let odd = "@@@@@\n@  WARNING: CHANGED!  @\n@@@@@\na\nb\nHost key verification failed.\n";
        assert_eq!(reason(odd), "a; b; Host key verification failed.");
        assert_eq!(reason("a\u{1b}[2J"), "a\\u{1b}[2J");
        assert_eq!(reason("scp: Connection closed\n"), "no reason given");
    }

    #[test]
    fn the_argument_list_is_fixed_but_for_judged_words() {
        let origins = Origins {
            allow: vec!["gold.example.org".into()],
            ssh_key: Some("/k".into()),
            ssh_known_hosts: Some("/h".into()),
            ..Origins::default()
        };
        let of = |uri: &str| arguments(&origins, uri, "10.0.0.9", Path::new("/images/.part-x"));
        let all = of("ssh://gold@gold.example.org:2222/srv/a_1.qcow2").unwrap();
        assert_eq!(all[all.len() - 3..], ["--", "gold@10.0.0.9:/srv/a_1.qcow2", "/images/.part-x"]);
        assert!(all.contains(&"StrictHostKeyChecking=yes".to_owned()));
        assert!(all.contains(&"HostKeyAlias=gold.example.org".to_owned()));
        for bad in [
            "ssh://gold.example.org/a",
            "ssh://-oProxyCommand=x@gold.example.org/a",
            "ssh://gold@gold.example.org/a;reboot",
            "ssh://gold@gold.example.org/a*",
            "ssh://gold@gold.example.org/$(id)",
            "ssh://gold@other.example.org/a",
            "ssh://gold:pw@gold.example.org/a",
        ] {
            assert_eq!(of(bad).expect_err(bad).status, 422, "{bad}");
        }
        let none = Origins { ssh_key: None, ..origins.clone() };
        let problem = arguments(&none, "ssh://g@gold.example.org/a", "10.0.0.9", Path::new("/x"));
        assert!(problem.unwrap_err().hint.is_some());
    }
}
