//! What lanes keep between runs: images and kernels, each made once from its recipe.
//!
//! A thing lies in `$XDG_CACHE_HOME/corten/lanes/NAME-HASH` (or below ~/.cache), where
//! the hash is of everything that decides what comes out: lists of packages, guest
//! scripts, the source of the code that makes it. It is made under another name and
//! renamed, so what is there is whole. Who wants it while it is made, waits. Once it is
//! made, what older recipes of the same name made is removed, unless it is in use: who
//! uses a thing holds a shared lock on its folder.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::fs::FlockOperation;

use super::context;

/// One thing in the cache.
pub(super) struct Part {
    /// What it is, for people: `uml-image`.
    pub(super) name: String,
    /// Everything that decides what comes out.
    pub(super) recipe: Vec<String>,
}

impl Part {
    /// Where it lies, or would.
    pub(super) fn folder(&self) -> io::Result<PathBuf> {
        let mut hash = Fnv::default();
        for text in &self.recipe {
            hash.add(text.as_bytes());
            hash.add(&[0]);
        }
        Ok(folder()?.join(format!("{}-{:016x}", self.name, hash.0)))
    }

    /// Returns it, after making it if it is not there.
    pub(super) fn get(&self, make: impl FnOnce(&Work) -> io::Result<()>) -> io::Result<Made> {
        let folder = self.folder()?;
        if let Some(made) = Made::hold(&folder)? {
            return Ok(made);
        }
        let cache = self::folder()?;
        std::fs::create_dir_all(&cache).map_err(context(&cache.to_string_lossy()))?;
        // Held until the end of the function, or of the process.
        let lock = File::create(cache.join(format!(".{}.lock", self.name)))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        if let Some(made) = Made::hold(&folder)? {
            return Ok(made);
        }
        let work = Work::new(folder.clone())?;
        make(&work)?;
        work.finish()?;
        let made = Made::hold(&folder)?
            .ok_or_else(|| io::Error::other(format!("{} was removed", folder.display())))?;
        if let Err(error) = self.sweep(&cache) {
            eprintln!("lane: older ones are still there: {error}");
        }
        Ok(made)
    }

    /// Removes what older recipes made and what killed makers left. The lock is held, so
    /// nobody makes one now; the one just made is in use.
    fn sweep(&self, cache: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(cache)? {
            let entry = entry?;
            let name = entry.file_name();
            if !self.is_of_this_name(&name.to_string_lossy()) {
                continue;
            }
            let lock = File::open(entry.path())?;
            let alone = FlockOperation::NonBlockingLockExclusive;
            if rustix::fs::flock(&lock, alone).is_ok() {
                eprintln!("lane: removing {}", entry.path().display());
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Whether it is called like this part, with whatever hash, finished or not.
    fn is_of_this_name(&self, folder: &str) -> bool {
        let rest = folder.strip_prefix(&self.name);
        let rest = rest.and_then(|rest| rest.strip_prefix('-'));
        let hash = rest.and_then(|rest| rest.split('.').next());
        hash.is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
    }
}

/// A part that is there, and stays there as long as this lives.
#[derive(Debug)]
pub(super) struct Made {
    path: PathBuf,
    _lock: File,
}

impl Made {
    /// `None` if it is not there.
    fn hold(path: &Path) -> io::Result<Option<Self>> {
        let lock = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(context(&path.to_string_lossy()))?,
        };
        rustix::fs::flock(&lock, FlockOperation::LockShared)?;
        // It may have been removed between the two.
        Ok(path.is_dir().then(|| Self {
            path: path.to_owned(),
            _lock: lock,
        }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes a folder, but not if something is mounted below it: a killed maker may have
/// left this machine's /dev there.
fn remove(folder: &Path) -> io::Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    if let Some(point) = points.find(|point| Path::new(point).starts_with(folder)) {
        let text = format!("{point} is still mounted, so its folder is not removed");
        return Err(io::Error::other(text));
    }
    std::fs::remove_dir_all(folder).map_err(context(&folder.to_string_lossy()))
}

/// Where all of it lies.
pub(super) fn folder() -> io::Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")));
    let base = base.ok_or_else(|| io::Error::other("neither XDG_CACHE_HOME nor HOME is set"))?;
    Ok(base.join("corten/lanes"))
}

/// FNV-1a: the same in every build, unlike the standard library's hashers. A collision
/// would need two recipes of one name, and nobody gains from making one.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// A part in the making. What is not finished is removed.
pub(super) struct Work {
    path: PathBuf,
    goal: PathBuf,
    begin: Instant,
}

impl Work {
    fn new(goal: PathBuf) -> io::Result<Self> {
        let mut path = goal.clone().into_os_string();
        path.push(format!(".new.{}", std::process::id()));
        let path = PathBuf::from(path);
        std::fs::create_dir(&path).map_err(context(&path.to_string_lossy()))?;
        Ok(Self {
            path,
            goal,
            begin: Instant::now(),
        })
    }

    /// The folder to fill.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the folder will be called.
    pub(super) fn goal(&self) -> &Path {
        &self.goal
    }

    /// Tells what is being done now.
    pub(super) fn say(&self, what: &str) {
        eprintln!("lane: {:4} s  {what}", self.begin.elapsed().as_secs());
    }

    /// Runs a program to its end. The error has its name and what it printed.
    pub(super) fn run(&self, command: &mut Command) -> io::Result<()> {
        output(command).map(drop)
    }

    fn finish(self) -> io::Result<()> {
        std::fs::rename(&self.path, &self.goal).map_err(context(&self.goal.to_string_lossy()))?;
        self.say(&format!("done: {}", self.goal.display()));
        Ok(())
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // After `finish` there is nothing at this path.
        if self.path.exists()
            && let Err(error) = remove(&self.path)
        {
            eprintln!("lane: {error}");
        }
    }
}

/// Runs a program to its end and returns what it wrote to stdout.
pub(super) fn output(command: &mut Command) -> io::Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .env("LC_ALL", "C")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .map_err(context(&name))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let told = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = told.lines().collect();
    let last = lines[lines.len().saturating_sub(20)..].join("\n");
    Err(io::Error::other(format!(
        "{name}: {}\n{last}",
        output.status
    )))
}

#[cfg(test)]
mod tests {
    use super::{Fnv, Part};

    #[test]
    fn the_hash_is_fnv_1a() {
        let mut hash = Fnv::default();
        hash.add(b"foobar");
        assert_eq!(hash.0, 0x8594_4171_f739_67e8);
    }

    #[test]
    fn the_place_changes_with_every_text_of_the_recipe() {
        let folder = |texts: &[&str]| {
            let recipe = texts.iter().map(|text| (*text).to_owned()).collect();
            let name = "x".to_owned();
            Part { name, recipe }.folder().unwrap()
        };
        assert_eq!(folder(&["a", "b"]), folder(&["a", "b"]));
        assert_ne!(folder(&["a", "b"]), folder(&["ab", ""]));
        assert_ne!(folder(&["a", "b"]), folder(&["a", "c"]));
    }

    #[test]
    fn only_folders_of_the_same_name_are_older_ones() {
        let part = Part {
            name: "uml".to_owned(),
            recipe: Vec::new(),
        };
        for (folder, is_one) in [
            ("uml-0123456789abcdef", true),
            ("uml-0123456789abcdef.new.17", true),
            ("uml-image-0123456789abcdef", false),
            ("uml", false),
            ("boot-17", false),
        ] {
            assert_eq!(part.is_of_this_name(folder), is_one, "{folder}");
        }
    }
}
