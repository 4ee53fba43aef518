//! The terminal of a container in the foreground: bytes both ways, the size, the raw mode.
//!
//! See termios(3) and pty(7). The container's end is this program's own and never blocks; the files
//! of the caller are shared with others, so they stay as they are and are used when poll(2) says so.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read, write};
use rustix::termios::{
    LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, Winsize, isatty,
    tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

use crate::failure::Failure;

/// A pipe that poll(2) calls writable takes this much without blocking (PIPE_BUF, pipe(7)).
const CHUNK: usize = 4096;

/// How long to wait before a terminal that nobody holds open is tried again.
const HUNG_UP: Duration = Duration::from_millis(100);

/// Who a file that is polled belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Input,
    Output,
    Master,
}

/// Bytes read and not yet written.
#[derive(Default)]
struct Pending(Vec<u8>);

/// A pty master, joined to the caller's input and output.
pub(crate) struct Console<'a> {
    master: OwnedFd,
    input: BorrowedFd<'a>,
    output: BorrowedFd<'a>,
    to_master: Pending,
    to_output: Pending,
    input_open: bool,
    output_open: bool,
    /// The last byte read ended a line, so one end-of-file character is enough.
    line_start: bool,
    /// All processes have closed their end; one of them may open it again.
    hung_up: bool,
}

/// Keeps the caller's terminal raw; dropping it gives back what was there before.
pub(crate) struct Raw<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl Raw<'_> {
    /// Makes `input` raw; `None` where it is no terminal.
    ///
    /// Output processing stays on: the container's side does not add carriage returns.
    pub(crate) fn new(input: BorrowedFd<'_>) -> Result<Option<Raw<'_>>, Failure> {
        let Ok(before) = tcgetattr(input) else {
            return Ok(None);
        };
        let mut raw = before.clone();
        raw.make_raw();
        raw.output_modes = before.output_modes;
        tcsetattr(input, OptionalActions::Now, &raw).map_err(|errno| failed("tcsetattr", errno))?;
        Ok(Some(Raw {
            terminal: input,
            before,
        }))
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        if let Err(errno) = tcsetattr(self.terminal, OptionalActions::Now, &self.before) {
            log::warn!(
                "the terminal stays raw: {}",
                failed("tcsetattr", errno).message
            );
        }
    }
}

/// The size of the first of `hosts` that is a terminal.
pub(crate) fn size(hosts: &[BorrowedFd<'_>]) -> Option<Winsize> {
    let mut terminals = hosts.iter().filter(|host| isatty(host));
    terminals.find_map(|host| tcgetwinsize(host).ok())
}

/// Gives the terminal `master` the size of the first of `hosts` that is a terminal.
pub(crate) fn resize(master: BorrowedFd<'_>, hosts: &[BorrowedFd<'_>]) {
    if let Some(size) = size(hosts)
        && let Err(errno) = tcsetwinsize(master, size)
    {
        log::warn!("{}", failed("TIOCSWINSZ", errno).message);
    }
}

/// Clears `ONLCR`: the caller's terminal adds the carriage returns, and a file gets none.
fn plain(master: BorrowedFd<'_>) -> Result<(), Failure> {
    let mut termios = tcgetattr(master).map_err(|errno| failed("tcgetattr", errno))?;
    termios.output_modes.remove(OutputModes::ONLCR);
    tcsetattr(master, OptionalActions::Now, &termios).map_err(|errno| failed("tcsetattr", errno))
}

impl<'a> Console<'a> {
    pub(crate) fn new(
        master: OwnedFd,
        input: BorrowedFd<'a>,
        output: BorrowedFd<'a>,
    ) -> Result<Console<'a>, Failure> {
        let flags = fcntl_getfl(&master).map_err(|errno| failed("fcntl", errno))?;
        fcntl_setfl(&master, flags | OFlags::NONBLOCK).map_err(|errno| failed("fcntl", errno))?;
        plain(master.as_fd())?;
        Ok(Console {
            master,
            input,
            output,
            to_master: Pending::default(),
            to_output: Pending::default(),
            input_open: true,
            output_open: true,
            line_start: true,
            hung_up: false,
        })
    }

    pub(crate) fn master(&self) -> BorrowedFd<'_> {
        self.master.as_fd()
    }

    /// What to poll for now.
    ///
    /// A file with nothing to wait for is left out: its POLLHUP would keep poll(2) from waiting.
    pub(crate) fn interests(&self) -> Vec<(End, PollFd<'_>)> {
        let mut wanted = Vec::with_capacity(3);
        if self.input_open && self.to_master.is_empty() {
            wanted.push((
                End::Input,
                PollFd::from_borrowed_fd(self.input, PollFlags::IN),
            ));
        }
        if !self.to_output.is_empty() {
            wanted.push((
                End::Output,
                PollFd::from_borrowed_fd(self.output, PollFlags::OUT),
            ));
        }
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, self.to_output.is_empty());
        events.set(PollFlags::OUT, !self.to_master.is_empty());
        if !events.is_empty() && !self.hung_up {
            wanted.push((End::Master, PollFd::new(&self.master, events)));
        }
        wanted
    }

    /// When to call `advance` also without an event.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.hung_up.then_some(HUNG_UP)
    }

    /// Moves bytes at the ends that are ready.
    pub(crate) fn advance(&mut self, ready: &[End]) {
        if ready.contains(&End::Input) {
            self.read_input();
        }
        if ready.contains(&End::Master) || self.hung_up {
            self.hung_up = false;
            self.write_master();
            if self.to_output.is_empty() {
                self.read_master();
            }
        }
        if ready.contains(&End::Output) {
            self.write_output();
        }
    }

    /// Reads what the container has left behind; whether there is something to write.
    pub(crate) fn remains(&mut self) -> bool {
        if self.to_output.is_empty() && !self.hung_up {
            self.read_master();
        }
        !self.to_output.is_empty()
    }

    fn read_input(&mut self) {
        match self.to_master.fill(self.input) {
            Ok(0) => self.end_input(),
            Ok(_) => self.line_start = self.to_master.0.last() == Some(&b'\n'),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A background job's terminal, or a file that can't be read: nothing more will come.
            Err(_) => self.end_input(),
        }
    }

    /// Tells the container that the input has ended, as a person at the terminal would.
    ///
    /// A program that has switched line editing off gets nothing: there the character is no sign.
    fn end_input(&mut self) {
        self.input_open = false;
        let Ok(termios) = tcgetattr(&self.master) else {
            return;
        };
        if termios.local_modes.contains(LocalModes::ICANON) {
            let end = termios.special_codes[SpecialCodeIndex::VEOF];
            // In the middle of a line the first one only hands over the line so far.
            let count = if self.line_start { 1 } else { 2 };
            self.to_master.0.extend(std::iter::repeat_n(end, count));
        }
    }

    fn read_master(&mut self) {
        match self.to_output.fill(self.master.as_fd()) {
            Ok(1..) | Err(Errno::AGAIN | Errno::INTR) => {}
            Ok(0) | Err(_) => self.hung_up = true,
        }
        if !self.output_open {
            self.to_output.0.clear();
        }
    }

    fn write_master(&mut self) {
        if self.to_master.drain(self.master.as_fd()).is_err() {
            self.to_master.0.clear();
        }
    }

    /// Without a reader the output is thrown away: the container must not stand still for it.
    fn write_output(&mut self) {
        if self.to_output.drain(self.output).is_err() {
            self.output_open = false;
            self.to_output.0.clear();
        }
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn fill(&mut self, from: BorrowedFd<'_>) -> rustix::io::Result<usize> {
        let mut chunk = [0; CHUNK];
        let count = read(from, &mut chunk)?;
        self.0.extend(chunk.iter().take(count));
        Ok(count)
    }

    fn drain(&mut self, into: BorrowedFd<'_>) -> rustix::io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        match write(into, &self.0) {
            Ok(count) => {
                self.0.drain(..count.min(self.0.len()));
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

fn failed(call: &str, errno: Errno) -> Failure {
    Failure::call(&format!("terminal: {call}"), errno)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write, pipe};
    use std::thread;

    use rustix::event::poll;
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};

    use super::*;

    fn pty() -> (OwnedFd, File) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        unlockpt(&master).unwrap();
        let terminal = ioctl_tiocgptpeer(&master, flags).unwrap();
        (master, terminal.into())
    }

    /// Moves bytes until every process has closed the terminal.
    fn relay(console: &mut Console<'_>) {
        while !console.hung_up {
            let (ends, mut fds): (Vec<_>, Vec<_>) = console.interests().into_iter().unzip();
            poll(&mut fds, None).unwrap();
            let ready = ends
                .iter()
                .zip(&fds)
                .filter(|(_, fd)| !fd.revents().is_empty());
            let ready: Vec<_> = ready.map(|(end, _)| *end).collect();
            console.advance(&ready);
        }
    }

    /// Feeds `input` to a terminal whose program answers with all it has read, then ends.
    fn converse(input: &[u8]) -> String {
        let (master, mut terminal) = pty();
        let (stdin, mut feed) = pipe().unwrap();
        let (mut answer, stdout) = pipe().unwrap();
        let mut termios = tcgetattr(&terminal).unwrap();
        termios.local_modes.remove(LocalModes::ECHO);
        termios.output_modes.remove(OutputModes::ONLCR);
        tcsetattr(&terminal, OptionalActions::Now, &termios).unwrap();
        feed.write_all(input).unwrap();
        drop(feed);
        let program = thread::spawn(move || {
            let mut text = Vec::new();
            terminal.read_to_end(&mut text).unwrap();
            terminal.write_all(&text).unwrap();
        });
        let mut console = Console::new(master, stdin.as_fd(), stdout.as_fd()).unwrap();
        relay(&mut console);
        assert!(!console.remains());
        program.join().unwrap();
        drop(console);
        drop(stdout);
        let mut text = String::new();
        answer.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn the_end_of_the_input_reaches_a_program_at_the_terminal() {
        for input in ["", "one\ntwo\n", "one\ntwo"] {
            assert_eq!(converse(input.as_bytes()), input);
        }
    }

    #[test]
    fn a_reader_that_has_gone_does_not_stop_the_container() {
        let (master, mut terminal) = pty();
        let (stdin, _feed) = pipe().unwrap();
        let (answer, stdout) = pipe().unwrap();
        drop(answer);
        let program = thread::spawn(move || terminal.write_all(&[b'x'; 200_000]).unwrap());
        let mut console = Console::new(master, stdin.as_fd(), stdout.as_fd()).unwrap();
        relay(&mut console);
        program.join().unwrap();
    }

    #[test]
    fn a_raw_terminal_keeps_its_output_modes_and_is_given_back() {
        let (_master, terminal) = pty();
        let before = tcgetattr(&terminal).unwrap();
        let raw = Raw::new(terminal.as_fd()).unwrap().unwrap();
        let during = tcgetattr(&terminal).unwrap();
        assert!(
            !during
                .local_modes
                .intersects(LocalModes::ICANON | LocalModes::ISIG)
        );
        assert_eq!(during.output_modes, before.output_modes);
        drop(raw);
        assert_eq!(
            tcgetattr(&terminal).unwrap().local_modes,
            before.local_modes
        );
    }

    #[test]
    fn what_is_no_terminal_is_left_alone() {
        let (stdin, _feed) = pipe().unwrap();
        assert!(Raw::new(stdin.as_fd()).unwrap().is_none());
    }

    #[test]
    fn the_size_comes_from_the_first_terminal_of_the_caller() {
        let ((master, _container), (_host, caller)) = (pty(), pty());
        let (pipe, _feed) = pipe().unwrap();
        let mut size = tcgetwinsize(&caller).unwrap();
        (size.ws_row, size.ws_col) = (33, 101);
        tcsetwinsize(&caller, size).unwrap();
        resize(master.as_fd(), &[pipe.as_fd(), caller.as_fd()]);
        let given = tcgetwinsize(&master).unwrap();
        assert_eq!((given.ws_row, given.ws_col), (33, 101));
    }
}
