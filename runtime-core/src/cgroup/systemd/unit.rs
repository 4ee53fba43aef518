//! Which unit a container gets, and where systemd puts it. Pure.
//!
//! See systemd.slice(5), systemd.scope(5) and systemd.unit(5).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cgroup::CgroupError;

const FIELD: &str = "linux.cgroupsPath";

/// The unit of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Unit {
    /// Its name, a scope, as `corten-web.scope`.
    pub name: String,
    /// The slice that it is in, as `system.slice`.
    pub slice: String,
}

impl Unit {
    /// The unit for `linux.cgroupsPath`, which must be `SLICE:PREFIX:NAME` or absent.
    ///
    /// As in runc: an empty slice is `system.slice`, and the name is `PREFIX-NAME.scope`.
    pub(crate) fn new(cgroups_path: Option<&str>, id: &str) -> Result<Unit, CgroupError> {
        let (slice, prefix, name) = match cgroups_path.filter(|path| !path.is_empty()) {
            None => ("", "corten", id),
            Some(path) => {
                let mut parts = path.split(':');
                match (parts.next(), parts.next(), parts.next(), parts.next()) {
                    (Some(slice), Some(prefix), Some(name), None) => (slice, prefix, name),
                    _ => {
                        let why = "is not SLICE:PREFIX:NAME, as systemd's cgroups are named";
                        return Err(invalid(path, why));
                    }
                }
            }
        };
        let shown = cgroups_path.unwrap_or_default();
        let slice = match slice {
            "" => "system.slice".to_owned(),
            slice => slice.to_owned(),
        };
        check_slice(shown, &slice)?;
        let name = match prefix {
            "" => format!("{name}.scope"),
            prefix => format!("{prefix}-{name}.scope"),
        };
        if name == ".scope" || !name.chars().all(is_name) || name.len() > 255 {
            return Err(invalid(shown, "has a name that no unit can have"));
        }
        Ok(Unit { name, slice })
    }

    /// The cgroup, below the root of the hierarchy: `a-b.slice` lies in `a.slice`.
    pub(crate) fn path(&self) -> PathBuf {
        let mut path = PathBuf::from("/");
        if let Some(words) = self
            .slice
            .strip_suffix(".slice")
            .filter(|words| *words != "-")
        {
            let ends = words.match_indices('-').map(|(at, _)| at);
            for end in ends.chain([words.len()]) {
                path.push(format!("{}.slice", words.get(..end).unwrap_or_default()));
            }
        }
        path.push(&self.name);
        path
    }
}

/// `-.slice` is the root; a dash stands between two words only.
fn check_slice(shown: &str, slice: &str) -> Result<(), CgroupError> {
    let words = slice.strip_suffix(".slice");
    let good = words.is_some_and(|words| {
        words == "-"
            || words
                .split('-')
                .all(|word| !word.is_empty() && word.chars().all(is_name))
    });
    if good {
        return Ok(());
    }
    Err(invalid(shown, "has a slice that no slice can be named"))
}

/// What a unit's name may have, see systemd.unit(5).
fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@')
}

fn invalid(path: &str, why: &str) -> CgroupError {
    CgroupError::Invalid {
        field: FIELD.to_owned(),
        why: format!("{path:?} {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(cgroups_path: &str) -> String {
        let unit = Unit::new(Some(cgroups_path), "web").unwrap();
        unit.path().into_os_string().into_string().unwrap()
    }

    #[test]
    fn slices_lie_in_each_other_by_their_dashes() {
        assert_eq!(path(""), "/system.slice/corten-web.scope");
        assert_eq!(path(":docker:1f"), "/system.slice/docker-1f.scope");
        assert_eq!(path("user.slice::x"), "/user.slice/x.scope");
        assert_eq!(
            path("a-b-c.slice:p:x"),
            "/a.slice/a-b.slice/a-b-c.slice/p-x.scope"
        );
        assert_eq!(path("-.slice:p:x"), "/p-x.scope");
        assert_eq!(Unit::new(None, "web").unwrap().name, "corten-web.scope");
    }

    #[test]
    fn what_no_unit_can_be_named_is_refused() {
        for wrong in [
            "/a/b",
            "a:b",
            "a.slice:b:c:d",
            "a:b:c",
            ".slice:b:c",
            "a--b.slice:b:c",
            "-a.slice:b:c",
            "a-.slice:b:c",
            "a/b.slice:b:c",
            "a.slice:b:c/d",
            "a.slice::",
            "a.slice:b:c d",
        ] {
            let error = Unit::new(Some(wrong), "web").unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("linux.cgroupsPath: {wrong:?} ")),
                "{error}"
            );
        }
    }
}
