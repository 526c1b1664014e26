//! A real slapd with a few people, in a folder of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::Duration;

use crate::another_agent::text;
use crate::lab::{program, run, until};

/// With TLS from the start.
pub(crate) const LDAPS: &str = "127.0.0.1:6360";
/// With StartTLS, and without TLS nothing but that.
pub(crate) const LDAP: &str = "127.0.0.1:3890";
const ROOT: &str = "cn=root,dc=example,dc=org";
const ROOT_PASSWORD: &str = "root secret";

/// Password of a person or of the service account.
pub(crate) fn password(name: &str) -> String {
    format!("{name} secret")
}

/// What the directory holds.
pub(crate) const PEOPLE: [&str; 7] = ["ann", "bob", "vic", "nogroup", "mallory", "admin", "twin"];
const GROUPS: [(&str, &[&str]); 3] = [
    ("admins", &["ann", "admin"]),
    ("operators", &["bob", "twin"]),
    // Ann is in two groups.
    ("staff", &["vic", "mallory", "ann"]),
];

/// DN of a person.
pub(crate) fn person(name: &str) -> String {
    format!("uid={name},ou=people,dc=example,dc=org")
}

/// DN of a group.
pub(crate) fn group(name: &str) -> String {
    format!("cn={name},ou=groups,dc=example,dc=org")
}

fn entries() -> String {
    let mut ldif = "dn: dc=example,dc=org\nobjectClass: dcObject\nobjectClass: organization\n\
                    o: Example\ndc: example\n\n"
        .to_owned();
    for unit in ["people", "groups", "services"] {
        ldif += &format!(
            "dn: ou={unit},dc=example,dc=org\nobjectClass: organizationalUnit\nou: {unit}\n\n"
        );
    }
    for name in PEOPLE {
        let (dn, secret) = (person(name), password(name));
        ldif += &format!(
            "dn: {dn}\nobjectClass: inetOrgPerson\ncn: {name}\nsn: {name}\nuid: {name}\n\
             userPassword: {secret}\n"
        );
        // A second login name of the same person.
        ldif += if name == "twin" { "uid: gemini\n\n" } else { "\n" };
    }
    ldif += &format!(
        "dn: cn=vmmgr,ou=services,dc=example,dc=org\nobjectClass: person\ncn: vmmgr\nsn: vmmgr\n\
         userPassword: {}\n\n",
        password("vmmgr")
    );
    for (name, members) in GROUPS {
        let members: String =
            members.iter().map(|member| format!("member: {}\n", person(member))).collect();
        ldif += &format!("dn: {}\nobjectClass: groupOfNames\ncn: {name}\n{members}\n", group(name));
    }
    ldif
}

/// Runs until it is stopped or dropped.
pub(crate) struct Slapd {
    dir: PathBuf,
    files: PathBuf,
    process: Option<Child>,
}

impl Slapd {
    /// With its entries and a certificate of a CA of its own, in `dir`; `tools/setup` has unpacked it.
    pub(crate) fn start(dir: &Path) -> Self {
        let cache = std::env::var("VMMGR_CACHE").unwrap_or_else(|_| "/var/cache/vmmgr".to_owned());
        let files = PathBuf::from(cache).join("tests/slapd");
        fs_err::create_dir_all(dir.join("db")).unwrap();
        for pki in ["known", "stranger"] {
            let out = text(&dir.join(pki));
            let names = ["pki", "init", "--host", "ldap", "--public-name", "127.0.0.1"];
            run(&text(&program("vmmctl")), &[&names[..], &["--dir", &out]].concat());
        }
        let mut slapd = Self { dir: dir.to_owned(), files, process: None };
        fs_err::write(slapd.config(), slapd.configuration()).unwrap();
        slapd.load();
        slapd.up();
        slapd
    }

    fn config(&self) -> PathBuf {
        self.dir.join("slapd.conf")
    }

    /// `bind_anon_cred` is the trap of RFC 4513, 5.1.2: a bind with a name and no password succeeds.
    fn configuration(&self) -> String {
        let (files, dir) = (self.files.display(), self.dir.display());
        let schemas: String = ["core", "cosine", "nis", "inetorgperson"]
            .map(|name| format!("include {files}/etc/ldap/schema/{name}.schema\n"))
            .concat();
        format!(
            "{schemas}modulepath {files}/usr/lib/ldap\nmoduleload back_mdb.la\n\
             pidfile {dir}/slapd.pid\nallow bind_anon_cred\n\
             TLSCertificateFile {dir}/known/server.pem\nTLSCertificateKeyFile {dir}/known/server.key\n\
             security simple_bind=64\n\
             database mdb\nsuffix \"dc=example,dc=org\"\ndirectory {dir}/db\n\
             rootdn \"{ROOT}\"\nrootpw \"{ROOT_PASSWORD}\"\n\
             access to attrs=userPassword by anonymous auth by * none\n\
             access to * by users read by * none\n"
        )
    }

    /// A program of the package; they are one, which looks at its name.
    fn program(&self, name: &str) -> Command {
        let libraries = format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        let mut command = Command::new(self.files.join("usr/sbin").join(name));
        command.env("LD_LIBRARY_PATH", self.files.join(libraries));
        command.args(["-f", &text(&self.config())]);
        command
    }

    fn load(&self) {
        let ldif = self.dir.join("entries.ldif");
        fs_err::write(&ldif, entries()).unwrap();
        let output = self.program("slapadd").args(["-l", &text(&ldif)]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Starts it again.
    pub(crate) fn up(&mut self) {
        let log = fs_err::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.dir.join("log"))
            .unwrap();
        let urls = format!("ldaps://{LDAPS} ldap://{LDAP}");
        // 256: connections, operations and results.
        let mut command = self.program("slapd");
        command.args(["-d", "256", "-h", &urls]).stderr(log.into_parts().0);
        self.process = Some(command.spawn().unwrap());
        until("slapd answers", Duration::from_secs(20), || {
            let output = self.client("ldapwhoami", &[]);
            if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
        });
    }

    /// Stops it.
    pub(crate) fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// One of OpenLDAP's clients, as the directory's root.
    fn client(&self, name: &str, arguments: &[&str]) -> Output {
        Command::new(name)
            .args(["-x", "-H", &format!("ldaps://{LDAPS}"), "-D", ROOT, "-w", ROOT_PASSWORD])
            .args(arguments)
            .env("LDAPTLS_CACERT", self.dir.join("known/ca.pem"))
            .output()
            .unwrap()
    }

    /// Changes entries, as an administrator of the directory does.
    pub(crate) fn modify(&self, ldif: &str) {
        let file = self.dir.join("change.ldif");
        let mut written = fs_err::File::create(&file).unwrap();
        written.write_all(ldif.as_bytes()).unwrap();
        let output = self.client("ldapmodify", &["-f", &text(&file)]);
        assert!(output.status.success(), "{output:?}");
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs_err::read_to_string(self.dir.join("log")).unwrap()
    }
}

impl Drop for Slapd {
    fn drop(&mut self) {
        self.down();
    }
}
