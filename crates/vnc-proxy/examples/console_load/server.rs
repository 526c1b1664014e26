//! What the measured server needs.

use std::fs;

use crate::Failure;

/// A process and all below it.
pub(crate) struct Server(pub(crate) u32);

impl Server {
    fn tree(&self) -> Vec<u32> {
        let mut found = vec![self.0];
        let mut at = 0;
        while let Some(parent) = found.get(at).copied() {
            at += 1;
            let Ok(tasks) = fs::read_dir(format!("/proc/{parent}/task")) else { continue };
            for task in tasks.flatten() {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                found.extend(
                    children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()),
                );
            }
        }
        found
    }

    /// utime and stime with those of ended children, seconds.
    pub(crate) fn cpu(&self) -> f64 {
        let ticks = |pid: u32| -> Option<u64> {
            let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let fields = text.rsplit_once(')')?.1.split_whitespace().skip(11).take(4);
            Some(fields.filter_map(|field| field.parse::<u64>().ok()).sum())
        };
        self.tree().into_iter().filter_map(ticks).sum::<u64>() as f64 / 100.0
    }

    /// Proportional set size.
    pub(crate) fn memory_kib(&self) -> Result<f64, Failure> {
        let mut sum = 0.0;
        for pid in self.tree() {
            let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
                continue;
            };
            let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap_or_default();
            sum += line.split_whitespace().nth(1).unwrap_or("0").parse::<f64>()?;
        }
        Ok(sum)
    }
}
