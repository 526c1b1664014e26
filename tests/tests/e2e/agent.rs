//! The agent with another configuration than the stack's.

use std::path::PathBuf;

use crate::lab::{Lab, tool_ok};

/// Whoever has it must be alone in the lab; the agent is as it was when this goes.
pub(crate) struct Agent {
    path: PathBuf,
    before: String,
}

impl Agent {
    pub(crate) fn with(lab: &Lab, edit: impl FnOnce(&str) -> String) -> Self {
        let path = lab.run.join("etc/host-agent.toml");
        let before = fs_err::read_to_string(&path).unwrap();
        let agent = Self { path, before };
        agent.restart(&edit(&agent.before));
        agent
    }

    fn restart(&self, text: &str) {
        fs_err::write(&self.path, text).unwrap();
        tool_ok("stack", &["stop", "host-agent"]);
        tool_ok("stack", &["start", "host-agent"]);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.restart(&self.before);
    }
}
