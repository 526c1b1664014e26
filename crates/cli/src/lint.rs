//! What cloud-init would not make of a user-data document, before a guest has to find out.
//!
//! Kinds and their first lines: cloud-init's `doc/rtd/explanation/format.rst`; it compares without
//! regard to case, and takes a document that begins with none of them for unknown and drops it.

use std::path::Path;
use std::process::{Command, Stdio};

use saphyr_parser::{Event, Parser};

/// metadata-srv's limit.
const LARGEST: usize = 256 * 1024;
/// First lines that cloud-init knows.
const KINDS: [&str; 11] = [
    "#cloud-config-archive",
    "#cloud-config-jsonp",
    "#cloud-config",
    "#cloud-boothook",
    "#include-once",
    "#include",
    "#part-handler",
    "#!",
    "## template: jinja",
    "mime-version:",
    "content-type:",
];

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// cloud-init will not take it.
    Error,
    /// It takes it, and probably not as meant.
    Warning,
}

impl Level {
    /// As it is printed.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Something about a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// How bad.
    pub(crate) level: Level,
    /// Line, from 1; 0 for the document as a whole.
    pub(crate) line: usize,
    /// What, in words.
    pub(crate) text: String,
}

fn error(line: usize, text: impl Into<String>) -> Finding {
    Finding { level: Level::Error, line, text: text.into() }
}

fn warning(line: usize, text: impl Into<String>) -> Finding {
    Finding { level: Level::Warning, line, text: text.into() }
}

/// Looks at a document; nothing found means that cloud-init reads it.
pub(crate) fn lint(document: &[u8]) -> Vec<Finding> {
    let mut found = Vec::new();
    if document.len() > LARGEST {
        found.push(error(0, format!("{} bytes; at most {LARGEST} are served", document.len())));
    }
    let Ok(text) = std::str::from_utf8(document) else {
        found.push(error(0, "not UTF-8"));
        return found;
    };
    if text.trim().is_empty() {
        found.push(warning(0, "the document is empty"));
        return found;
    }
    if text.starts_with('\u{feff}') {
        found.push(error(
            1,
            "begins with a byte order mark: cloud-init does not know the kind then",
        ));
    }
    let first = text.lines().next().unwrap_or_default().to_ascii_lowercase();
    let Some(kind) = KINDS.into_iter().find(|kind| first.starts_with(kind)) else {
        found
            .push(error(1, "the first line names no kind, such as `#cloud-config` or `#!/bin/sh`"));
        return found;
    };
    if text.contains("\r\n") {
        found.push(warning(1, "lines end in CR LF: the guest's shell takes the CR for text"));
    }
    if kind == "#cloud-config" {
        cloud_config(text, &first, &mut found);
    }
    found
}

/// What this machine's own cloud-init finds in a `#cloud-config` document by its schema: keys of the
/// wrong kind and words that it does not know. None where there is no cloud-init.
pub(crate) fn schema(file: &Path) -> Option<Vec<Finding>> {
    let output = Command::new("cloud-init")
        .args(["schema", "--config-file"])
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    if output.status.success() {
        return Some(Vec::new());
    }
    let said = if output.stderr.is_empty() { output.stdout } else { output.stderr };
    let said = String::from_utf8_lossy(&said);
    let text = said
        .split_once("schema errors:")
        .map_or(&*said, |(_, found)| found)
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    Some(vec![error(0, format!("cloud-init's schema: {text}"))])
}

fn cloud_config(text: &str, first: &str, found: &mut Vec<Finding>) {
    if first.trim_end() != "#cloud-config" {
        found.push(warning(1, "text after `#cloud-config`"));
    }
    for (number, line) in text.lines().enumerate() {
        let indent: &str = &line[..line.len() - line.trim_start().len()];
        if indent.contains('\t') && !line.trim().is_empty() {
            found.push(error(number + 1, "a tab in the indentation: YAML takes spaces only"));
        }
    }
    // The tab's own error says more than the parser's.
    if found.iter().any(|finding| finding.level == Level::Error) {
        return;
    }
    let mut kind = None;
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        match event {
            Err(bad) => {
                found.push(error(bad.marker().line(), format!("not YAML: {}", bad.info())));
                return;
            }
            Ok((Event::DocumentStart(_), _)) => documents += 1,
            Ok((Event::StreamStart | Event::StreamEnd | Event::DocumentEnd, _)) => {}
            Ok((event, span)) if kind.is_none() => {
                kind = Some((matches!(event, Event::MappingStart(..)), span.start.line()));
            }
            Ok(_) => {}
        }
    }
    match kind {
        None => found.push(warning(0, "says nothing after its first line")),
        Some((true, _)) => {}
        Some((false, line)) => {
            found.push(error(line, "expected keys and values, such as `packages: [vim]`"));
        }
    }
    if documents > 1 {
        found.push(error(0, "holds several YAML documents; cloud-init takes one"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str) -> Vec<(usize, String)> {
        let found = lint(text.as_bytes()).into_iter();
        found.filter(|f| f.level == Level::Error).map(|f| (f.line, f.text)).collect()
    }

    #[test]
    fn what_cloud_init_reads_is_fine() {
        for good in [
            "#cloud-config\npackages: [vim]\nruncmd:\n  - [sh, -c, 'echo \"a\tb\"']\n",
            "#!/bin/sh\n\techo indented with a tab\n",
            "## template: jinja\n#cloud-config\nhostname: {{ v1.local_hostname }}\n",
            "#include\nhttps://example.org/x\n",
            "Content-Type: multipart/mixed; boundary=\"x\"\nMIME-Version: 1.0\n\n--x--\n",
        ] {
            assert_eq!(lint(good.as_bytes()), [], "{good}");
        }
    }

    #[test]
    fn what_cloud_init_drops_is_named_with_its_line() {
        for (text, line, about) in [
            ("packages: [vim]\n", 1, "names no kind"),
            ("# cloud-config\na: b\n", 1, "names no kind"),
            ("\u{feff}#cloud-config\na: b\n", 1, "byte order mark"),
            ("#cloud-config\na:\n\tb: c\n", 3, "tab"),
            ("#cloud-config\na: [b\n", 3, "not YAML"),
            ("#cloud-config\n- a\n- b\n", 2, "keys and values"),
            ("#cloud-config\njust text\n", 2, "keys and values"),
            ("#cloud-config\na: b\n---\nc: d\n", 0, "several"),
        ] {
            let errors = errors(text);
            assert!(!errors.is_empty(), "{text:?}");
            assert!(errors[0].1.contains(about), "{text:?}: {errors:?}");
            assert!(errors[0].0 == line || about == "not YAML", "{text:?}: {errors:?}");
        }
        assert_eq!(lint(&[0xff, 0xfe])[0].text, "not UTF-8");
        let huge = format!("#!/bin/sh\n{}", "#".repeat(LARGEST));
        assert!(errors(&huge)[0].1.contains("at most"));
        for doubtful in ["", "#cloud-config\n", "#cloud-config x\na: b\n", "#!/bin/sh\r\nls\r\n"] {
            let found = lint(doubtful.as_bytes());
            assert!(found.iter().any(|f| f.level == Level::Warning), "{doubtful:?}: {found:?}");
        }
    }
}
