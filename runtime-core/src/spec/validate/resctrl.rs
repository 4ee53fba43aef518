//! Checks of `linux.intelRdt`: names of directories, and lines.

use super::super::IntelRdt;
use super::super::SpecError;
use super::super::error::quoted;
use super::invalid;

/// What the kernel itself has at the root of resctrl.
const TAKEN: [&str; 3] = ["info", "mon_data", "mon_groups"];

pub(super) fn check(found: &mut Vec<SpecError>, rdt: Option<&IntelRdt>) {
    let Some(rdt) = rdt else {
        return;
    };
    let class = rdt.clos_id.as_deref().unwrap_or_default();
    let is_path = class.contains('/') && class != "/";
    if is_path || matches!(class, "." | "..") || TAKEN.contains(&class) {
        let cause = format!("{} can't name a class of service", quoted(class));
        found.push(invalid("linux.intelRdt.closID", cause));
    }
    if let Some(text) = &rdt.mem_bw_schema {
        line(found, "linux.intelRdt.memBwSchema".to_owned(), text);
    }
    for (index, text) in rdt.schemata.iter().enumerate() {
        line(found, format!("linux.intelRdt.schemata[{index}]"), text);
    }
}

fn line(found: &mut Vec<SpecError>, path: String, text: &str) {
    if text.contains('\n') {
        found.push(invalid(path, "must be one line"));
    }
}
