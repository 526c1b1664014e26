//! People of a real slapd log in, at a gateway and an nginx of their own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::accounts::vmmctl_at;
use crate::another_agent::text;
use crate::lab::{Lab, lab, program, run, until};
use crate::slapd::{LDAP, LDAPS, Slapd, group, password, person};

const SITE: &str = "https://localhost:8453";
/// A refusal takes so long at least, and each other's time otherwise.
const REFUSAL: Duration = Duration::from_secs(1);

/// A gateway with no hosts, and nginx before it.
struct Site<'a> {
    lab: &'a Lab,
    config: PathBuf,
    admin: String,
    nginx: Child,
    gateway: Option<Child>,
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        self.stop();
        // SIGTERM, so that nginx ends its workers.
        run("kill", &[&self.nginx.id().to_string()]);
        self.nginx.wait().unwrap();
    }
}

impl<'a> Site<'a> {
    fn new(lab: &'a Lab, dir: &Path) -> Self {
        let (pki, run_dir) = (text(&lab.state.join("pki")), text(&dir.join("nginx")));
        fs_err::create_dir_all(dir.join("nginx/tmp")).unwrap();
        let rendered = text(&dir.join("nginx.conf"));
        let arguments = ["nginx", "render", "--listen", "8453", "--gateway", "127.0.0.1:7451"];
        let places = ["--pki", &pki, "--run-dir", &run_dir, "--output", &rendered];
        run(&text(&program("vmmctl")), &[&arguments[..], &places[..]].concat());
        let nginx =
            Command::new("nginx").args(["-c", &rendered, "-g", "daemon off;"]).spawn().unwrap();
        let known = fs_err::read_to_string(lab.run.join("etc/api-gateway.toml")).unwrap();
        let state = lab.state.display().to_string();
        let known = known
            .replace("127.0.0.1:7441", "127.0.0.1:7451")
            .replace("127.0.0.1:9441", "127.0.0.1:9451")
            .replace(&format!("{state}/gateway"), &text(&dir.join("gateway")));
        assert!(known.contains(&text(&dir.join("gateway"))), "{known}");
        let config = dir.join("gateway.toml");
        fs_err::write(&config, known).unwrap();
        let said = run(&text(&program("api-gateway")), &["init-admin", "--config", &text(&config)]);
        let admin = said.lines().last().unwrap().to_owned();
        Self { lab, config, admin, nginx, gateway: None }
    }

    fn stop(&mut self) {
        if let Some(mut gateway) = self.gateway.take() {
            gateway.kill().unwrap();
            gateway.wait().unwrap();
        }
    }

    /// Starts the gateway anew with this `[ldap]`.
    fn start(&mut self, ldap: &str) {
        self.stop();
        let base = fs_err::read_to_string(&self.config).unwrap();
        let config = self.config.with_file_name("with-directory.toml");
        fs_err::write(&config, format!("{base}\n{ldap}")).unwrap();
        let program = program("api-gateway");
        run(&text(&program), &["check-config", "--config", &text(&config)]);
        self.gateway =
            Some(Command::new(program).args(["--config", &text(&config)]).spawn().unwrap());
        until("the gateway answers", Duration::from_secs(30), || {
            let request = self.lab.api.client.get(format!("{SITE}/v1/version"));
            match self.lab.api.runtime.block_on(async { request.send().await }) {
                Ok(answer) if answer.status() == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    /// `POST /v1/session` as it is, without the id of the request.
    fn login(&self, name: &str, password: &str) -> (u16, Value) {
        let body = json!({"username": name, "password": password});
        let request = self.lab.api.client.post(format!("{SITE}/v1/session")).json(&body);
        self.lab.api.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            let mut body: Value = answer.json().await.unwrap();
            body.as_object_mut().unwrap().remove("request_id");
            (status, body)
        })
    }

    /// The token of a person who must get in with `vmmctl login`.
    fn token(&self, name: &str, password: &str) -> String {
        self.said("", &["login", "--username", name], &format!("{password}\n"))
    }

    fn said(&self, token: &str, arguments: &[&str], typed: &str) -> String {
        let output = vmmctl_at(SITE, self.lab, token, arguments, typed);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Name and role, or nothing where the token is worth nothing.
    fn whoami(&self, token: &str) -> Option<String> {
        let output = vmmctl_at(SITE, self.lab, token, &["whoami"], "");
        let said = String::from_utf8(output.stdout).unwrap();
        output.status.success().then(|| said.trim().to_owned())
    }
}

fn groups() -> String {
    let [admins, operators, staff] = ["admins", "operators", "staff"].map(group);
    format!(
        "[ldap.groups]\nadmin = [\"{admins}\"]\noperator = [\"{operators}\"]\nviewer = [\"{staff}\"]\n"
    )
}

/// TLS from the start, a DN made of the name.
fn by_dn(dir: &Path, ca: &str) -> String {
    format!(
        "[ldap]\nurl = \"ldaps://{LDAPS}\"\nca = \"{}\"\nbind_dn = \"{}\"\nblock = [\"mallory\"]\n{}",
        dir.join(ca).display(),
        person("{}"),
        groups()
    )
}

/// StartTLS, a service account that looks for the name.
fn by_search(dir: &Path) -> String {
    let file = dir.join("service.password");
    fs_err::write(&file, password("vmmgr") + "\n").unwrap();
    run("chmod", &["600", &text(&file)]);
    format!(
        "[ldap]\nurl = \"ldap://{LDAP}\"\nca = \"{}\"\nblock = [\"mallory\"]\n\
         [ldap.search]\nbase = \"ou=people,dc=example,dc=org\"\nfilter = \"(objectClass=inetOrgPerson)\"\n\
         bind_dn = \"cn=vmmgr,ou=services,dc=example,dc=org\"\npassword_file = \"{}\"\n{}",
        dir.join("known/ca.pem").display(),
        file.display(),
        groups()
    )
}

/// Who gets in and as what, and that all others are told the same.
fn the_right_people_get_in(site: &Site<'_>, slapd: &Slapd) {
    for (name, shown) in
        [("ann", "ann (admin)"), ("Bob", "bob (operator)"), ("vic", "vic (viewer)")]
    {
        let token = site.token(name, &password(&name.to_lowercase()));
        assert_eq!(site.whoami(&token).as_deref(), Some(shown));
    }
    let before = slapd.log().len();
    let bob = password("bob");
    let (status, told) = site.login("bob", "wrong");
    assert_eq!(status, 401, "{told}");
    for (name, secret) in [
        ("bob", ""),
        ("bob", "BOB SECRET"),
        ("nobody", bob.as_str()),
        ("nogroup", &password("nogroup")),
        ("mallory", &password("mallory")),
        ("MALLORY", &password("mallory")),
        ("admin", &password("admin")),
        ("*", &bob),
        ("b*", &bob),
        (")(uid=*", &bob),
        ("bob)(|(uid=*", &bob),
        ("bob,ou=people", &bob),
        ("bob,ou=people,dc=example,dc=org", &bob),
        (&person("bob"), &bob),
        ("b\\6fb", &bob),
        ("", &bob),
        ("", ""),
    ] {
        let start = Instant::now();
        let (status, problem) = site.login(name, secret);
        assert_eq!((status, &problem), (401, &told), "{name}");
        let took = start.elapsed();
        assert!(took >= REFUSAL && took < REFUSAL * 3, "{name}: {took:?}");
    }
    // Only plain names went on, and none without a password.
    let log = slapd.log()[before..].to_owned();
    assert!(log.contains(&format!("BIND dn=\"{}\"", person("bob"))), "{log}");
    assert!(log.contains("nobody") && !log.to_lowercase().contains("mallory"), "{log}");
    for trace in ["*", "\\2a", "|(", "=admin,", "BIND anonymous"] {
        assert!(!log.contains(trace), "{trace}: {log}");
    }
}

#[test]
fn people_of_a_directory_log_in_with_the_role_of_their_groups() {
    let Some(lab) = lab("an LDAP directory") else { return };
    let _peace = lab.peace();
    let dir = lab.run.join("directory");
    let mut slapd = Slapd::start(&dir);
    let mut site = Site::new(lab, &dir);
    let bobs = password("bob");

    site.start(&by_search(&dir));
    the_right_people_get_in(&site, &slapd);
    // One person with two names would be two accounts.
    for name in ["twin", "gemini"] {
        assert_eq!(site.login(name, &password("twin")).0, 401);
    }

    site.start(&by_dn(&dir, "known/ca.pem"));
    the_right_people_get_in(&site, &slapd);

    // The described system's own way in leads to the same account.
    let body = json!({"username": "bob", "password": bobs});
    let request = lab.api.client.post(format!("{SITE}/api/login")).json(&body);
    let answer: Value =
        lab.api.runtime.block_on(async { request.send().await.unwrap().json().await.unwrap() });
    assert_eq!(answer["result"], "OK", "{answer}");
    let token = answer["token"].as_str().unwrap();
    assert_eq!(site.whoami(token).as_deref(), Some("bob (operator)"));

    // What changes in the directory counts from the next login, and ends what said otherwise.
    let (bob, ann) = (site.token("bob", &bobs), site.token("ann", &password("ann")));
    let named = site.said(&bob, &["token", "create", "ci"], "");
    let moved = |from: &str, to: &str| {
        let (from, to, bob) = (group(from), group(to), person("bob"));
        slapd.modify(&format!(
            "dn: {from}\nchangetype: modify\ndelete: member\nmember: {bob}\n\n\
             dn: {to}\nchangetype: modify\nadd: member\nmember: {bob}\n"
        ));
    };
    moved("operators", "staff");
    assert_eq!(site.whoami(&bob).as_deref(), Some("bob (operator)"));
    let viewer = site.token("bob", &bobs);
    assert_eq!(site.whoami(&viewer).as_deref(), Some("bob (viewer)"));
    assert_eq!((site.whoami(&bob), site.whoami(&named)), (None, None));
    slapd.modify(&format!("dn: {}\nchangetype: delete\n", person("vic")));
    assert_eq!(site.login("vic", &password("vic")).0, 401);

    // An account here, which can be disabled here; an admin of the directory is an admin.
    let listed = site.said(&ann, &["user", "list"], "");
    let row = listed.lines().find(|line| line.starts_with("bob")).unwrap();
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(cells, ["bob", "viewer", "directory", "false"], "{listed}");
    site.said(&ann, &["user", "disable", "bob"], "");
    assert_eq!(site.whoami(&viewer), None);
    assert_eq!(site.login("bob", &bobs).0, 401);
    site.said(&ann, &["user", "enable", "bob"], "");
    let bob = site.token("bob", &bobs);

    // Without the directory its people wait, and nobody else does.
    slapd.down();
    let (status, problem) = site.login("bob", &bobs);
    assert_eq!((status, &problem["code"]), (503, &json!("directory_unreachable")), "{problem}");
    let own = site.token("admin", &site.admin);
    assert_eq!(site.whoami(&own).as_deref(), Some("admin (admin)"));
    assert_eq!(site.whoami(&bob).as_deref(), Some("bob (viewer)"));
    let refused = vmmctl_at(SITE, lab, "", &["login", "--username", "bob"], &format!("{bobs}\n"));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("directory"), "{said}");
    slapd.up();
    site.token("bob", &bobs);

    // A server that somebody else's CA vouches for is not told any password.
    site.start(&by_dn(&dir, "stranger/ca.pem"));
    let before = slapd.log().len();
    assert_eq!(site.login("bob", &bobs).0, 503);
    let log = slapd.log()[before..].to_owned();
    assert!(log.contains("ACCEPT") && !log.contains("BIND"), "{log}");
    assert_eq!(site.login("admin", &site.admin).0, 200);

    // The audit log has who it was, and nothing has the passwords.
    let audit = site.said(&own, &["audit", "export"], "");
    assert!(audit.contains("\"bob\"") && !audit.contains("secret"), "{audit}");
}
