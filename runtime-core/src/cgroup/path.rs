//! Which cgroup a container gets. Pure: `own` is what [`super::own_cgroup`] read.

use std::path::{Component, Path, PathBuf};

use super::CgroupError;
use super::settings::Setting;

const FIELD: &str = "linux.cgroupsPath";

/// The container's cgroup, as an absolute path below the root of the hierarchy.
///
/// - absolute: as it is;
/// - relative: beside the caller's own cgroup, as runc does it: the caller's own has
///   processes, so the kernel lets it give no controllers to children (cgroups(7));
/// - absent: `id` below the caller's own cgroup; beside it where `settings` need a
///   controller, for the same reason.
///
/// `..` is resolved by name and must not lead out of where the path starts.
pub(crate) fn cgroup_path(
    cgroups_path: Option<&str>,
    id: &str,
    own: impl FnOnce() -> PathBuf,
    settings: &[Setting],
) -> Result<PathBuf, CgroupError> {
    let beside = |mut own: PathBuf| {
        own.pop();
        own
    };
    let (start, asked) = match cgroups_path.filter(|path| !path.is_empty()) {
        Some(path) if path.starts_with('/') => (PathBuf::from("/"), path),
        Some(path) => (beside(own()), path),
        None if settings.iter().any(|s| s.needs().is_some()) => (beside(own()), id),
        None => (own(), id),
    };
    let below = normalized(asked)?;
    if below.as_os_str().is_empty() {
        return Err(invalid(asked, "names no cgroup of its own"));
    }
    Ok(start.join(below))
}

/// `path` without `.`, `..` and leading slashes.
fn normalized(path: &str) -> Result<PathBuf, CgroupError> {
    if path.contains(['\0', '\n']) {
        return Err(invalid(path, "a cgroup's name has no NUL and no newline"));
    }
    let mut below = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => below.push(name),
            Component::ParentDir if !below.pop() => {
                return Err(invalid(path, "leads out of where it starts"));
            }
            _ => {}
        }
    }
    Ok(below)
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

    fn path(cgroups_path: Option<&str>, own: &str) -> String {
        let path = cgroup_path(cgroups_path, "web", || own.into(), &[]).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    #[test]
    fn an_absolute_path_is_taken_as_it_is() {
        assert_eq!(path(Some("/docker/1"), "/user.slice/me"), "/docker/1");
        assert_eq!(path(Some("//docker/./1/"), "/user.slice/me"), "/docker/1");
        assert_eq!(path(Some("/a/../b"), "/"), "/b");
    }

    #[test]
    fn a_relative_path_is_beside_the_callers_own_cgroup() {
        assert_eq!(path(Some("a/b"), "/user.slice/me"), "/user.slice/a/b");
        assert_eq!(path(Some("a"), "/"), "/a");
    }

    #[test]
    fn without_a_path_the_cgroup_is_named_by_the_id_below_the_callers_own() {
        assert_eq!(path(None, "/user.slice/me"), "/user.slice/me/web");
        assert_eq!(path(Some(""), "/"), "/web");
    }

    #[test]
    fn without_a_path_but_with_a_limit_the_cgroup_is_beside_the_callers_own() {
        let limits = [Setting::new("pids.max", "5", "linux.resources.pids.limit")];
        let found = cgroup_path(None, "web", || "/user.slice/me".into(), &limits);
        assert_eq!(found.unwrap(), Path::new("/user.slice/web"));
        let limits = [Setting::new("cgroup.max.depth", "5", "x")];
        let found = cgroup_path(None, "web", || "/user.slice/me".into(), &limits);
        assert_eq!(found.unwrap(), Path::new("/user.slice/me/web"));
    }

    #[test]
    fn a_path_that_leads_out_or_nowhere_is_refused_by_name() {
        for (asked, why) in [
            ("../a", "leads out of where it starts"),
            ("/../a", "leads out of where it starts"),
            ("a/../../b", "leads out of where it starts"),
            ("/", "names no cgroup of its own"),
            ("a/..", "names no cgroup of its own"),
            ("a\nb", "a cgroup's name has no NUL and no newline"),
        ] {
            let err = cgroup_path(Some(asked), "web", || "/own".into(), &[]).unwrap_err();
            assert_eq!(
                err.to_string(),
                format!("linux.cgroupsPath: {asked:?} {why}")
            );
        }
    }
}
