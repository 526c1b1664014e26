//! Real programs in a folder of the test's own.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::sync::Mutex;
use std::time::Instant;

use super::*;

struct Folder {
    dir: tempfile::TempDir,
    seconds: u32,
}

struct Run {
    ended: Result<(), Problem>,
    lines: Vec<String>,
}

impl Folder {
    fn with(script: &str) -> Self {
        let folder = Self { dir: tempfile::tempdir().unwrap(), seconds: 60 };
        fs_err::create_dir(folder.path("hooks")).unwrap();
        folder.file("hooks/fabric", &format!("#!/bin/sh\n{script}\n"), 0o755);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, text: &str, mode: u32) {
        fs_err::write(self.path(name), text).unwrap();
        self.mode(name, mode);
    }

    fn mode(&self, name: &str, mode: u32) {
        fs_err::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn hooks(&self) -> Hooks {
        let config = DeviceHooks::of_test(self.path("hooks"), self.seconds);
        Hooks::of_test(Some(config), &[device()])
    }

    async fn run(&self, variables: &[(&str, &str)]) -> Run {
        let lines = Mutex::new(Vec::new());
        let host = HostId::parse("host01").unwrap();
        let ended = {
            let tell = |line: String| lines.lock().unwrap().push(line);
            self.hooks().run(&host, &hooked(variables), Action::Attach, &tell).await
        };
        Run { ended, lines: lines.into_inner().unwrap() }
    }

    fn refused(&self) -> Problem {
        let problem = self.hooks().check(&name()).unwrap_err();
        assert_eq!(problem.code, ErrorCode::HookRefused);
        assert_eq!(self.hooks().problems(), std::slice::from_ref(&problem.detail));
        problem
    }
}

fn name() -> ResourceName {
    ResourceName::parse("fabric").unwrap()
}

fn device() -> DeviceConfig {
    let device = json!({"kind": "disk", "name": "fabric-disk", "hook": "fabric"});
    serde_json::from_value(device).unwrap()
}

fn hooked(variables: &[(&str, &str)]) -> Hooked {
    let variables: BTreeMap<_, _> = variables.iter().copied().collect();
    let Value::Object(request) = json!({"device": "fabric-disk", "variables": variables}) else {
        unreachable!()
    };
    let vm = VmId::parse("6f1ed002-ab5d-4b3c-8a1e-3f5c2f0a7b11").unwrap();
    Hooked { vm, device: "vdb".to_owned(), hook: name(), request }
}

#[tokio::test]
async fn a_hook_has_fixed_arguments_a_clean_environment_and_json_to_read() {
    let folder = Folder::with(
        "tr '\\0' '|' </proc/$$/cmdline; echo; tr '\\0' '|' </proc/$$/environ; echo; pwd; cat",
    );
    let run = folder.run(&[("zone", "a")]).await;
    run.ended.unwrap();
    let [arguments, environment, place, told] = run.lines.try_into().unwrap();
    let path = folder.path("hooks/fabric");
    let vm = "6f1ed002-ab5d-4b3c-8a1e-3f5c2f0a7b11";
    assert_eq!(arguments, format!("/bin/sh|{}|attach|host01|{vm}|vdb|", path.display()));
    assert!(!environment.contains("CARGO") && !environment.contains("HOME="), "{environment}");
    assert_eq!(environment.split_terminator('|').count(), 2, "{environment}");
    assert_eq!(place, "/");
    let told: Value = serde_json::from_str(&told).unwrap();
    let expected = json!({"action": "attach", "device": "fabric-disk", "variables": {"zone": "a"}});
    assert_eq!(told, expected);
}

#[tokio::test]
async fn hostile_values_are_json_and_nothing_else() {
    let folder = Folder::with("cat /proc/$$/cmdline /proc/$$/environ | tr '\\0' ' '; echo; cat");
    let hostile =
        ["$(touch /tmp/x)", "\n; reboot #", "\"},\"action\":\"detach\"", "--help", "\u{1b}[2J\0"];
    for value in hostile {
        let run = folder.run(&[("zone", value)]).await;
        run.ended.unwrap();
        let [seen, told] = run.lines.try_into().unwrap();
        assert!(!seen.contains(value.trim()), "{seen}");
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            (&told["variables"]["zone"], &told["action"]),
            (&json!(value), &json!("attach"))
        );
    }
}

#[tokio::test]
async fn a_failure_says_how_it_ended_and_what_was_said_last() {
    // On one of the outputs: what comes by two has no order.
    let folder =
        Folder::with("exec >&2; for n in 1 2 3 4 5 6; do echo line $n; done; echo no port; exit 3");
    let run = folder.run(&[]).await;
    assert_eq!(run.lines.len(), 7);
    let problem = run.ended.unwrap_err();
    assert_eq!((problem.code, problem.status), (ErrorCode::HookFailed, 502));
    for part in ["`fabric`", "attach of vdb", "exit status: 3", "line 6", "no port"] {
        assert!(problem.detail.contains(part), "{problem}");
    }
    assert!(!problem.detail.contains("line 2"), "{problem}");
    let killed = Folder::with("kill -9 $$").run(&[]).await.ended.unwrap_err();
    assert!(killed.detail.contains("signal: 9"), "{killed}");
    // Neither reading nor writing is owed.
    let deaf = Folder::with("exec <&- >&- 2>&-; exit 0");
    deaf.run(&[("zone", &"x".repeat(200_000))]).await.ended.unwrap();
}

/// Gone, or dead and only not yet buried by its new parent.
fn is_over(pid: &str) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
}

async fn wait_over(pid: &str) {
    let give_up = Instant::now() + Duration::from_secs(20);
    while !is_over(pid) {
        assert!(Instant::now() < give_up, "process {pid} lives");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_hook_that_hangs_is_killed_with_its_children() {
    let mut folder = Folder::with(
        "trap '' TERM; echo $$; sleep 1000 & echo $!; (sleep 1000 & echo $!; wait) & wait",
    );
    folder.seconds = 1;
    let run = folder.run(&[]).await;
    let problem = run.ended.unwrap_err();
    assert_eq!((problem.code, problem.status), (ErrorCode::HookFailed, 502));
    assert!(problem.detail.contains("killed after 1 s"), "{problem}");
    assert_eq!(run.lines.len(), 3, "{:?}", run.lines);
    for pid in &run.lines {
        wait_over(pid).await;
    }
}

#[tokio::test]
async fn a_hook_whose_operation_goes_away_goes_too() {
    let folder = Folder::with("sleep 1000 & echo $!; wait");
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let hooks = folder.hooks();
    let running = tokio::spawn(async move {
        let host = HostId::parse("host01").unwrap();
        let tell = |line: String| tell.send(line).unwrap();
        hooks.run(&host, &hooked(&[]), Action::Attach, &tell).await
    });
    let pid = told.recv().await.unwrap();
    assert!(!is_over(&pid));
    running.abort();
    wait_over(&pid).await;
}

#[tokio::test]
async fn what_it_leaves_in_the_background_holds_nothing_up() {
    let folder = Folder::with("echo begun; setsid sleep 30 & echo $!");
    let begun = Instant::now();
    let run = folder.run(&[]).await;
    run.ended.unwrap();
    assert_eq!(run.lines[0], "begun");
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn much_output_is_read_and_not_kept() {
    // 20 MB in lines, then a line without an end.
    let folder = Folder::with(
        "yes 'all work and no play' | head -c 20000000; head -c 9000000 /dev/zero | tr '\\0' x; exit 1",
    );
    let run = folder.run(&[]).await;
    assert_eq!(run.lines.len(), 401);
    assert!(run.lines[400].contains("not shown"));
    assert!(run.ended.unwrap_err().detail.len() < 4000);
}

#[test]
fn only_files_that_are_root_s_alone_are_run() {
    let folder = Folder::with("exit 0");
    assert_eq!(folder.hooks().check(&name()).unwrap(), folder.path("hooks/fabric"));
    assert!(folder.hooks().problems().is_empty());
    for (what, mode, why) in [
        ("hooks/fabric", 0o775, "others than root may write to"),
        ("hooks/fabric", 0o757, "others than root may write to"),
        ("hooks/fabric", 0o644, "not executable"),
        ("hooks", 0o775, "others than root may write to"),
        ("hooks", 0o1777, "others than root may write to"),
        ("", 0o777, "others than root may write to"),
    ] {
        folder.mode(what, mode);
        let problem = folder.refused();
        assert!(problem.detail.contains(why), "{what} {mode:o}: {problem}");
        assert!(problem.hint.is_some());
        folder.mode(what, 0o755);
    }
    // Below a sticky folder, such as /tmp, names are safe.
    folder.mode("", 0o1777);
    folder.hooks().check(&name()).unwrap();
    folder.mode("", 0o755);

    fs_err::rename(folder.path("hooks/fabric"), folder.path("real")).unwrap();
    assert!(folder.refused().detail.contains("No such file"));
    symlink(folder.path("real"), folder.path("hooks/fabric")).unwrap();
    assert!(folder.refused().detail.contains("symbolic link"));
    fs_err::remove_file(folder.path("hooks/fabric")).unwrap();
    fs_err::create_dir(folder.path("hooks/fabric")).unwrap();
    assert!(folder.refused().detail.contains("not a plain file"));
    assert!(
        Hooks::of_test(None, &[])
            .check(&name())
            .unwrap_err()
            .hint
            .unwrap()
            .contains("[device_hooks]")
    );
    assert_eq!(Hooks::of_test(None, &[device()]).problems().len(), 1);
}

#[test]
fn a_file_of_somebody_else_is_not_run() {
    let folder = Folder::with("exit 0");
    // The test's files belong to whoever runs it: to somebody else than this owner.
    let other = rustix::process::getuid().as_raw() + 1;
    let hooks = |owner: u32| {
        let config = DeviceHooks::of_test(folder.path("hooks"), 1);
        Hooks::load_owned(owner, Some(config), &[])
    };
    if other != 1 {
        let problem = hooks(other).check(&name()).unwrap_err();
        assert!(problem.detail.contains("belongs to user"), "{problem}");
        return;
    }
    // Root may give files away.
    for what in ["hooks/fabric", "hooks", ""] {
        chown(folder.path(what), Some(12345), None).unwrap();
        let problem = folder.refused();
        assert!(problem.detail.contains("belongs to user 12345"), "{what}: {problem}");
        chown(folder.path(what), Some(0), None).unwrap();
    }
    hooks(0).check(&name()).unwrap();
}

#[test]
fn a_hook_may_declare_variables() {
    let folder = Folder::with("exit 0");
    assert!(folder.hooks().variables(&name()).is_empty());
    folder.file("hooks/fabric.vars.json", r#"{"zone": "where the port is"}"#, 0o644);
    assert_eq!(folder.hooks().variables(&name())["zone"].help, "where the port is");
    folder.file("hooks/fabric.vars.json", "[]", 0o644);
    assert!(folder.hooks().problems()[0].contains("fabric.vars.json"));
    folder.file("hooks/fabric.vars.json", "{}", 0o666);
    assert!(folder.hooks().problems()[0].contains("may write to"));
}
