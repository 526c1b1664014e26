//! nginx's configuration, from the one template in `nginx/`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};

use crate::failure::Failure;

const TEMPLATE: &str = include_str!("../../../../nginx/vmmgr.conf.j2");

/// nginx.
#[derive(Subcommand)]
pub(crate) enum Nginx {
    /// Write the configuration; check it with `nginx -t -c FILE`
    Render(Render),
}

/// What the configuration depends on.
#[derive(Args, Clone)]
pub(crate) struct Render {
    /// Where it goes
    #[arg(long)]
    output: PathBuf,
    /// Port, or address:port, of the public site
    #[arg(long, default_value = "443")]
    listen: String,
    /// Name of the site for people
    #[arg(long, default_value = "vmm.registry.local")]
    public_name: String,
    /// Name of the site for hosts, which show a client certificate
    #[arg(long, default_value = "kvm.registry.local")]
    hosts_name: String,
    /// Folder of the certificates
    #[arg(long)]
    pki: PathBuf,
    /// Folder of a pair for each site, `<name>.pem` and `<name>.key`, as `vmmctl pki nginx` writes them; both
    /// sites use `server.pem` of --pki without
    #[arg(long)]
    sites_pki: Option<PathBuf>,
    /// Address of vnc-proxy; may be repeated
    #[arg(long, default_value = "127.0.0.1:7444")]
    vnc_proxy: Vec<String>,
    /// Address of api-gateway; may be repeated
    #[arg(long, default_value = "127.0.0.1:7441")]
    gateway: Vec<String>,
    /// Folder of the built web pages (`ui/dist`), an absolute path; without it only the API is served
    #[arg(long)]
    ui: Option<PathBuf>,
    /// Folder of nginx's pid, logs and temporary files
    #[arg(long)]
    run_dir: PathBuf,
}

/// What a value may hold: nothing that ends a directive.
fn plain(value: &str) -> Result<(), Failure> {
    let fits = !value.is_empty()
        && value.chars().all(|c| c.is_ascii_alphanumeric() || "._-:/[]".contains(c));
    if fits {
        Ok(())
    } else {
        Err(Failure::Usage(format!(
            "`{}` has no place in nginx's configuration",
            value.escape_debug()
        )))
    }
}

impl Render {
    fn text(&self) -> Result<String, Failure> {
        let (pki, run_dir) = (self.pki.to_string_lossy(), self.run_dir.to_string_lossy());
        let ui = self.ui.as_ref().map(|dir| dir.to_string_lossy());
        if self.ui.as_ref().is_some_and(|dir| !dir.is_absolute()) {
            // nginx would take it from its own prefix.
            return Err(Failure::Usage("--ui: an absolute path is needed".to_owned()));
        }
        let values = [&self.listen, &self.public_name, &self.hosts_name].map(String::as_str);
        let pair = |name: &str| match &self.sites_pki {
            Some(dir) => dir.join(name).to_string_lossy().into_owned(),
            None => format!("{pki}/server"),
        };
        let (public_pair, hosts_pair) = (pair(&self.public_name), pair(&self.hosts_name));
        for value in values
            .into_iter()
            .chain([&*public_pair, &*hosts_pair])
            .chain([&*pki, &*run_dir])
            .chain(ui.as_deref())
            .chain(self.gateway.iter().map(String::as_str))
        {
            plain(value)?;
        }
        self.vnc_proxy.iter().try_for_each(|address| plain(address))?;
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_template("nginx", TEMPLATE).map_err(Failure::local)?;
        let template = environment.get_template("nginx").map_err(Failure::local)?;
        template
            .render(context! {
                listen => self.listen.clone(),
                public_name => self.public_name.clone(),
                hosts_name => self.hosts_name.clone(),
                vnc_proxy => self.vnc_proxy.clone(),
                pki => pki.to_string(),
                public_pair => public_pair,
                hosts_pair => hosts_pair,
                run_dir => run_dir.to_string(),
                ui => ui.as_deref(),
                gateway => self.gateway.clone(),
            })
            .map_err(Failure::local)
    }
}

impl Nginx {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Self::Render(render) = self;
        let text = render.text()?;
        fs_err::create_dir_all(render.run_dir.join("tmp")).map_err(Failure::local)?;
        fs_err::write(&render.output, text).map_err(Failure::local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn render(dir: &std::path::Path) -> Render {
        Render {
            output: dir.join("nginx.conf"),
            listen: "127.0.0.1:8443".into(),
            public_name: "vmm.registry.local".into(),
            hosts_name: "kvm.registry.local".into(),
            pki: dir.join("pki"),
            sites_pki: None,
            vnc_proxy: vec!["127.0.0.1:7444".into()],
            gateway: vec!["127.0.0.1:7441".into()],
            run_dir: dir.join("run"),
            ui: None,
        }
    }

    #[test]
    fn nginx_itself_takes_the_rendered_configuration() {
        let dir = tempfile::tempdir().unwrap();
        super::super::pki::Pki::Init {
            dir: dir.path().join("pki"),
            host: "h".into(),
            public_name: vec!["localhost".into()],
            hosts_name: "kvm.registry.local".into(),
        }
        .run()
        .unwrap();
        let render = render(dir.path());
        Nginx::Render(render.clone()).run().unwrap();
        let check = Command::new("nginx").arg("-t").arg("-c").arg(&render.output).output();
        let check = check.expect("nginx is installed by `make setup`");
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
        assert!(!render.text().unwrap().contains("alias"));
    }

    #[test]
    fn a_value_cannot_end_a_directive() {
        let dir = tempfile::tempdir().unwrap();
        let mut render = render(dir.path());
        render.public_name = "x; alias /etc/".into();
        assert!(render.text().is_err());
    }
}
