//! The one stack that all tests share.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::api::Api;

/// The host of the stack.
pub(crate) const HOST: &str = "host01";

/// A running stack, with the demo guest on its way.
pub(crate) struct Lab {
    pub(crate) state: PathBuf,
    pub(crate) run: PathBuf,
    pub(crate) api: Api,
    demo: Mutex<Option<JoinHandle<Output>>>,
    demo_ended: OnceLock<Result<(), String>>,
    peace: RwLock<()>,
}

/// The lab, or none where there is none; then the test has said so.
pub(crate) fn lab(test: &str) -> Option<&'static Lab> {
    static LAB: OnceLock<Lab> = OnceLock::new();
    if std::env::var("VMMGR_LAB").as_deref() != Ok("inside") {
        eprintln!("skipped: {test} needs root and a lab of its own; run `tools/e2e`");
        return None;
    }
    Some(LAB.get_or_init(Lab::start))
}

/// Runs a script of `tools/`; its output is the test's.
pub(crate) fn tool(name: &str, arguments: &[&str]) -> Output {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tools")).join(name);
    let output = Command::new(&path).args(arguments).output().unwrap();
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    output
}

/// As [`tool`]; it must succeed. Gives what it printed.
pub(crate) fn tool_ok(name: &str, arguments: &[&str]) -> String {
    let output = tool(name, arguments);
    assert!(output.status.success(), "tools/{name} {arguments:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Polls until `look` finds something; panics with what it saw last when the time is over.
pub(crate) fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + within;
    loop {
        match look() {
            Ok(found) => return found,
            Err(seen) => {
                assert!(Instant::now() < end, "{what}: not within {within:?}; seen: {seen}")
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// One of our programs, as it was built with this one.
pub(crate) fn program(name: &str) -> PathBuf {
    std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().join(name)
}

/// Output of a program that must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

impl Lab {
    fn start() -> Self {
        let dir = |name: &str| PathBuf::from(std::env::var(name).unwrap());
        let (state, run) = (dir("VMMGR_STATE"), dir("VMMGR_RUN"));
        tool_ok("stack", &["up"]);
        // The same steps as `make demo`; they take minutes, and other tests go on meanwhile.
        let demo = std::thread::spawn(|| tool("demo", &["guest"]));
        let ca = fs_err::read(state.join("pki/ca.pem")).unwrap();
        let password = fs_err::read_to_string(state.join("admin.password")).unwrap();
        let api = Api::login(&ca, password.trim());
        until("the host is reachable", Duration::from_secs(60), || {
            let (_, hosts) = api.get("/v1/hosts");
            let states: Vec<&str> = hosts
                .as_array()
                .unwrap()
                .iter()
                .map(|host| host["state"].as_str().unwrap())
                .collect();
            if states == ["reachable"] { Ok(()) } else { Err(format!("{states:?}")) }
        });
        let (status, answer) = api.post(
            "/v1/images",
            &serde_json::json!({"name": "busybox", "arch": "x86_64", "uri": tool_ok("busybox-image", &[])}),
        );
        assert_eq!(status, 201, "{answer}");
        Self {
            state,
            run,
            api,
            demo: Mutex::new(Some(demo)),
            demo_ended: OnceLock::new(),
            peace: RwLock::new(()),
        }
    }

    /// Waits until the demo's script has ended; it must have succeeded.
    pub(crate) fn demo(&self) {
        let ended = self.demo_ended.get_or_init(|| {
            let demo = self.demo.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap();
            let output = demo.join().map_err(|_| "the thread of tools/demo panicked".to_owned())?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() { Ok(()) } else { Err(format!("{}: {text}", output.status)) }
        });
        assert_eq!(*ended, Ok(()), "tools/demo guest");
    }

    /// While this is held nobody breaks the stack.
    pub(crate) fn peace(&self) -> RwLockReadGuard<'_, ()> {
        self.peace.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// While this is held nobody else uses the stack; the demo guest has booted.
    pub(crate) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.demo();
        self.peace.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Lab::alone`], but the demo guest may still be booting: for what it does not notice.
    pub(crate) fn alone_but_demo(&self) -> RwLockWriteGuard<'_, ()> {
        self.peace.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is left of a guest on the host: names of files that carry its id.
    pub(crate) fn leftovers(&self, vm: &str) -> Vec<String> {
        let mut found = Vec::new();
        for dir in ["storage", "metadata"] {
            for entry in fs_err::read_dir(self.state.join(dir)).unwrap() {
                let name = entry.unwrap().file_name().to_string_lossy().into_owned();
                if name.contains(vm) {
                    found.push(format!("{dir}/{name}"));
                }
            }
        }
        found
    }
}
