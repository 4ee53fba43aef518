//! One boot of a lane's machine: the files it sees, its output, its end.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::{TIMED_OUT, cache, context};
use crate::wait;

/// What the outside returns when the machine ended without the command's exit code.
pub const NO_CODE: i32 = 125;

/// How many of the console's last lines tell why: a kernel's panic has forty.
const LINES: usize = 60;

/// How the folders of boots are called, before the pid of the process they belong to.
const PREFIX: &str = "boot-";

/// What to do in a machine.
#[derive(Debug, Clone)]
pub struct Request {
    /// Programs to be seen in /host under a name.
    pub programs: Vec<(OsString, PathBuf)>,
    /// The command, and what to set in its environment.
    pub command: Vec<OsString>,
    /// Variables for it.
    pub variables: Vec<(&'static str, OsString)>,
    /// End the machine after this time.
    pub limit: Duration,
}

/// The folder of one boot, gone with it. Everything in it is a copy: a machine that goes
/// wrong can't reach the files that the copies are of.
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn new(request: &Request) -> io::Result<Self> {
        sweep()?;
        let name = format!("{PREFIX}{}", std::process::id());
        let folder = Self {
            // Not below /run or /dev, of which the native lane has its own.
            path: cache::folder()?.join(name),
        };
        let (host, control) = (folder.path.join("host"), folder.path.join("control"));
        std::fs::create_dir(&folder.path).map_err(context(&folder.path.to_string_lossy()))?;
        std::fs::create_dir(&host)?;
        std::fs::create_dir(&control)?;
        for (name, program) in &request.programs {
            std::fs::copy(program, host.join(name)).map_err(context(&program.to_string_lossy()))?;
        }
        std::fs::write(control.join("command"), script(request))?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn code(&self) -> Option<i32> {
        let text = std::fs::read_to_string(self.path.join("control/code")).ok()?;
        text.trim().parse().ok()
    }

    pub(super) fn console(&self) -> PathBuf {
        self.path.join("console")
    }

    fn console_text(&self) -> String {
        let bytes = std::fs::read(self.console()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub(super) fn print_console(&self) {
        let text = self.console_text();
        let lines: Vec<&str> = text.lines().collect();
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            eprintln!("  {line}");
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("lane: {}: {error}", self.path.display());
        }
    }
}

/// Removes what killed processes left.
fn sweep() -> io::Result<()> {
    left().try_for_each(std::fs::remove_dir_all)
}

/// The folders of boots whose process is gone.
pub(crate) fn left() -> impl Iterator<Item = PathBuf> {
    let entries = cache::folder().and_then(std::fs::read_dir);
    let names = entries.into_iter().flatten().flatten();
    names.filter_map(|entry| {
        let name = entry.file_name();
        let pid = name.to_str()?.strip_prefix(PREFIX)?;
        (!Path::new("/proc").join(pid).exists()).then(|| entry.path())
    })
}

/// The shell script that becomes the command.
fn script(request: &Request) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, value) in &request.variables {
        text.extend_from_slice(format!("export {name}=").as_bytes());
        text.extend(quoted(value).into_vec());
        text.push(b'\n');
    }
    text.extend_from_slice(b"exec");
    for word in &request.command {
        text.push(b' ');
        text.extend(quoted(word).into_vec());
    }
    text.push(b'\n');
    text
}

/// As the shell writes a word that means nothing but itself.
fn quoted(word: &OsStr) -> OsString {
    let mut text = vec![b'\''];
    for byte in word.as_bytes() {
        match byte {
            b'\'' => text.extend_from_slice(b"'\\''"),
            other => text.push(*other),
        }
    }
    text.push(b'\'');
    OsString::from_vec(text)
}

/// A pipe into a machine, whose writing end only the machine's process keeps.
pub(super) struct Line {
    pub(super) write: rustix::fd::OwnedFd,
    copy: JoinHandle<io::Result<u64>>,
}

impl Line {
    /// Everything that the machine writes comes out of `to` as it comes.
    pub(super) fn to(mut to: impl Write + Send + 'static) -> io::Result<Self> {
        let (read, write) = rustix::pipe::pipe()?;
        // The other end is inherited, by its number.
        rustix::io::fcntl_setfd(&read, rustix::io::FdFlags::CLOEXEC)?;
        let copy = std::thread::spawn(move || copy(File::from(read), &mut to));
        Ok(Self { write, copy })
    }
}

fn copy(mut from: impl Read, to: &mut impl Write) -> io::Result<u64> {
    let (mut buffer, mut sum) = ([0; 8192], 0);
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(sum);
        }
        to.write_all(&buffer[..count])?;
        to.flush()?;
        sum += count as u64;
    }
}

/// A machine that was started. It must be the leader of a process group, which is killed
/// at the end.
pub(super) struct Machine<'f> {
    pub(super) process: Child,
    pub(super) folder: &'f Folder,
    pub(super) lines: Vec<Line>,
}

impl Machine<'_> {
    /// Whether the console has this text within the limit. False if the machine ends.
    pub(super) fn says(&mut self, text: &str, limit: Duration) -> bool {
        let answer = wait::until(limit, || {
            // Asked first: a machine may say it and end at once.
            let ended = !matches!(self.process.try_wait(), Ok(None));
            let said = self.folder.console_text().contains(text);
            (said || ended).then_some(said)
        });
        answer.unwrap_or(false)
    }

    /// Waits for its end, and kills what is left of it.
    pub(super) fn finish(mut self, limit: Duration) -> io::Result<End> {
        let status = wait::child(&mut self.process, limit)?;
        let group = i32::try_from(self.process.id())
            .ok()
            .and_then(Pid::from_raw);
        let killed = group.map(|group| kill_process_group(group, Signal::KILL));
        // No such group is what a machine leaves that ended well.
        if let Some(Err(error)) = killed
            && error != rustix::io::Errno::SRCH
        {
            return Err(error.into());
        }
        self.process.wait()?;
        for Line { write, copy } in self.lines {
            drop(write);
            drop(copy.join());
        }
        Ok(match (status, self.folder.code()) {
            (Some(_), Some(code)) => End::Code(code),
            (None, _) => End::TimedOut(limit),
            (Some(status), None) => End::Broke(status),
        })
    }
}

/// How a machine ended.
#[derive(Debug)]
pub(super) enum End {
    /// By itself, with the command's exit code.
    Code(i32),
    /// It was killed at its limit.
    TimedOut(Duration),
    /// Without the command's exit code.
    Broke(ExitStatus),
}

impl End {
    /// The exit code for the outside. Tells what is unusual, with the console's last lines.
    pub(super) fn tell(&self, folder: &Folder) -> i32 {
        let code = match self {
            Self::Code(code) => return *code,
            Self::TimedOut(limit) => {
                let seconds = limit.as_secs();
                eprintln!("lane: still running after {seconds} s, the console says:");
                TIMED_OUT
            }
            Self::Broke(status) => {
                eprintln!("lane: the machine ended without an exit code ({status}), its console:");
                NO_CODE
            }
        };
        folder.print_console();
        code
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::time::Duration;

    use super::{Request, quoted, script};

    #[test]
    fn a_quote_in_a_word_is_quoted() {
        assert_eq!(quoted(OsStr::new("it's $HOME")), r"'it'\''s $HOME'");
    }

    #[test]
    fn the_script_sets_the_variables_and_becomes_the_command() {
        let request = Request {
            programs: Vec::new(),
            command: ["echo", "a b"].map(OsString::from).to_vec(),
            variables: vec![("NAME", OsString::from("x y"))],
            limit: Duration::ZERO,
        };
        let expected = "export NAME='x y'\nexec 'echo' 'a b'\n";
        assert_eq!(String::from_utf8(script(&request)).unwrap(), expected);
    }
}
