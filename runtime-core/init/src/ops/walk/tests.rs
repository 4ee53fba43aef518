//! Paths below a root that is a folder of this machine: no privilege is needed, and nothing
//! outside of it may change.

use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::*;

/// A folder `outside` with a folder `root` in it.
struct Place {
    outside: PathBuf,
    root: PathBuf,
}

impl Place {
    fn new(name: &str) -> Place {
        let outside =
            std::env::temp_dir().join(format!("corten-walk-{}-{name}", std::process::id()));
        let root = outside.join("root");
        fs::create_dir_all(&root).unwrap();
        Place { outside, root }
    }

    fn link(&self, target: impl AsRef<Path>, name: &str) {
        symlink(target, self.root.join(name)).unwrap();
    }

    fn dir(&self, name: &str) {
        fs::create_dir_all(self.root.join(name)).unwrap();
    }

    /// Makes a path; what it is then, by its place below the root.
    fn make(&self, path: &str, make: Make, more: u64) -> Result<PathBuf, i32> {
        let root = fs::File::open(&self.root).unwrap();
        let path = CString::new(path).unwrap();
        let found = make_in(Fd(root.as_raw_fd()), &path, make, more);
        found.map_err(|failure| failure.errno).map(|fd| {
            let link = format!("/proc/self/fd/{}", fd.0);
            let place = fs::read_link(link).unwrap();
            sys::close(fd).unwrap();
            let below = place.strip_prefix(self.root.canonicalize().unwrap());
            below.expect("inside the root").to_owned()
        })
    }

    fn dir_at(&self, path: &str) -> Result<PathBuf, i32> {
        self.make(path, Make::Directory, 0)
    }

    fn file_at(&self, path: &str) -> Result<PathBuf, i32> {
        self.make(path, Make::File, 0)
    }

    /// Names beside the root.
    fn beside(&self) -> usize {
        fs::read_dir(&self.outside).unwrap().count() - 1
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        assert_eq!(self.beside(), 0, "something was made outside of the root");
        fs::remove_dir_all(&self.outside).unwrap();
    }
}

fn at(path: &str) -> Result<PathBuf, i32> {
    Ok(PathBuf::from(path))
}

#[test]
fn missing_directories_are_made_on_the_way() {
    let place = Place::new("missing");
    assert_eq!(place.dir_at("/a/b/c"), at("a/b/c"));
    assert_eq!(place.file_at("/a/x/file"), at("a/x/file"));
    assert!(place.root.join("a/b/c").is_dir());
    assert!(place.root.join("a/x/file").is_file());
}

#[test]
fn what_is_there_is_taken_as_it_is() {
    let place = Place::new("there");
    place.dir("a");
    fs::write(place.root.join("a/file"), "text").unwrap();
    assert_eq!(place.dir_at("/a"), at("a"));
    assert_eq!(place.file_at("/a/file"), at("a/file"));
    assert_eq!(fs::read(place.root.join("a/file")).unwrap(), b"text");
    assert_eq!(place.dir_at("/"), at(""));
    // Whether it is of the right kind is for the caller to see.
    assert_eq!(place.file_at("/a"), at("a"));
}

#[test]
fn doubled_slashes_dots_and_a_slash_at_the_end_change_nothing() {
    let place = Place::new("slashes");
    assert_eq!(place.dir_at("//a///b/./c/"), at("a/b/c"));
    assert_eq!(place.file_at("x//./file"), at("x/file"));
}

#[test]
fn two_dots_never_lead_above_the_root() {
    let place = Place::new("dots");
    assert_eq!(place.dir_at("/../../../a"), at("a"));
    assert_eq!(place.dir_at("/b/../../../c"), at("c"));
    assert_eq!(place.dir_at("/.."), at(""));
}

#[test]
fn absolute_links_start_at_the_root() {
    let place = Place::new("absolute");
    place.dir("real");
    place.link("/real", "link");
    assert_eq!(place.dir_at("/link/a"), at("real/a"));
    assert_eq!(place.file_at("/link/a/b"), at("real/a/b"));
    place.link(&place.outside, "out");
    assert!(place.dir_at("/out/a").unwrap().ends_with("a"));
}

#[test]
fn relative_links_stay_inside() {
    let place = Place::new("relative");
    place.dir("a/b");
    place.link("../../../../c", "a/b/link");
    place.dir("c");
    assert_eq!(place.dir_at("/a/b/link/d"), at("c/d"));
}

#[test]
fn a_link_to_nothing_is_followed_and_its_target_is_made() {
    let place = Place::new("dangling");
    place.link("../run/resolve/stub.conf", "resolv.conf");
    assert_eq!(place.file_at("/resolv.conf"), at("run/resolve/stub.conf"));
    place.link("/var/one", "two");
    place.link("two", "three");
    assert_eq!(place.dir_at("/three/deep"), at("var/one/deep"));
}

#[test]
fn a_link_to_nothing_below_a_linked_directory_is_relative_to_where_it_lies() {
    let place = Place::new("nested");
    place.dir("real/sub");
    place.link("real/sub", "short");
    place.link("../made", "real/sub/link");
    assert_eq!(place.dir_at("/short/link"), at("real/made"));
}

#[test]
fn a_link_that_dangles_outside_dangles_inside() {
    let place = Place::new("escape");
    place.link("../../../../../../../../tmp/corten-walk-never", "link");
    assert_eq!(place.dir_at("/link"), at("tmp/corten-walk-never"));
    assert!(!Path::new("/tmp/corten-walk-never").exists());
}

#[test]
fn links_in_a_circle_are_an_error() {
    let place = Place::new("circle");
    place.link("b", "a");
    place.link("a", "b");
    place.link("self/x", "self");
    for path in ["/a", "/a/below", "/self"] {
        assert_eq!(place.dir_at(path), Err(errno::ELOOP), "{path}");
    }
}

#[test]
fn a_chain_of_dangling_links_ends_where_the_kernels_does() {
    let place = Place::new("chain");
    for number in 0..60 {
        place.link(format!("l{}", number + 1), &format!("l{number}"));
    }
    assert_eq!(place.dir_at("/l0"), Err(errno::ELOOP));
    assert_eq!(place.dir_at("/l30"), at("l60"));
}

#[test]
fn where_links_are_not_allowed_none_is_followed() {
    let place = Place::new("nolinks");
    place.dir("real");
    place.link("real", "link");
    place.link("nothing", "dangling");
    let more = flag::RESOLVE_NO_SYMLINKS;
    for path in ["/link", "/link/a", "/dangling", "/dangling/a"] {
        let made = place.make(path, Make::Directory, more);
        assert_eq!(made, Err(errno::ELOOP), "{path}");
    }
    assert_eq!(place.make("/real/a", Make::Directory, more), at("real/a"));
    assert!(!place.root.join("nothing").exists());
}

#[test]
fn a_file_on_the_way_is_an_error() {
    let place = Place::new("notdir");
    fs::write(place.root.join("file"), "").unwrap();
    assert_eq!(place.dir_at("/file/a"), Err(errno::ENOTDIR));
    assert_eq!(place.file_at("/file/a/b"), Err(errno::ENOTDIR));
}

#[test]
fn a_magic_link_is_not_followed() {
    let place = Place::new("magic");
    // /proc is the only place that has them; the walk starts there.
    let root = fs::File::open("/proc/self").unwrap();
    let here = fs::File::open(&place.outside).unwrap();
    let path = CString::new(format!("/fd/{}/made", here.as_raw_fd())).unwrap();
    let found = make_in(Fd(root.as_raw_fd()), &path, Make::Directory, 0);
    assert_eq!(found.unwrap_err().errno, errno::ELOOP);
}

#[test]
fn a_path_that_is_too_long_is_an_error() {
    let place = Place::new("long");
    let deep = "/a".repeat(3000);
    assert_eq!(place.dir_at(&deep), Err(errno::ENAMETOOLONG));
    let name = format!("/{}", "n".repeat(256));
    assert_eq!(place.dir_at(&name), Err(errno::ENAMETOOLONG));
    // A target that makes it too long.
    place.link("b/".repeat(1500), "link");
    let path = format!("/link/{}", "c/".repeat(1000));
    assert_eq!(place.dir_at(&path), Err(errno::ENAMETOOLONG));
}

#[test]
fn no_descriptor_is_left_open() {
    let place = Place::new("fds");
    place.link("x/y", "link");
    fs::write(place.root.join("file"), "").unwrap();
    let root = fs::File::open(&place.root).unwrap();
    // The lowest free number is the same before and after; other tests take some meanwhile,
    // so it is the sum over many walks that would show.
    let count = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = count();
    for number in 0..300 {
        for path in [format!("/link/d{number}/e"), format!("/a{number}/b/c")] {
            let path = CString::new(path).unwrap();
            let fd = make_in(Fd(root.as_raw_fd()), &path, Make::Directory, 0).unwrap();
            sys::close(fd).unwrap();
        }
    }
    assert!(count() < before + 200, "{} then {}", before, count());
}

#[test]
fn what_is_made_has_the_mode_that_was_asked_for() {
    let place = Place::new("mode");
    let mask = fs::File::create(place.root.join("probe")).unwrap();
    let allowed = mask.metadata().unwrap().mode() & 0o777;
    place.file_at("/d/file").unwrap();
    let mode = |path: &str| {
        let meta = fs::metadata(place.root.join(path)).unwrap();
        meta.permissions().mode() & 0o7777
    };
    // The umask of the test is the caller's; init's own is 0.
    assert_eq!(mode("d/file"), 0o644 & allowed);
    assert_eq!(mode("d"), 0o755 & (allowed | 0o111));
}
