//! [`Workers`]: threads for what takes time, one for each operation.
//!
//! Create, start and delete wait for processes, mounts wait for disks. Each gets a thread,
//! so that a slow one holds up nobody else; and an idle shim has none.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use rustix::event::EventfdFlags;
use rustix::io::Errno;

use crate::daemon::Shim;

/// What is done with a result, on the thread that owns all state.
pub(crate) type Finish = Box<dyn FnOnce(&mut Shim) + Send>;

/// What takes time.
pub(crate) type Work = Box<dyn FnOnce() -> Finish + Send>;

/// The library parses JSON recursively and keeps paths on the stack; seen: below 64 KiB.
const STACK: usize = 512 << 10;

#[derive(Debug)]
pub(crate) struct Workers {
    sender: Sender<Finish>,
    receiver: Receiver<Finish>,
    wake: Arc<OwnedFd>,
    running: usize,
}

impl Workers {
    pub(crate) fn new() -> Result<Workers, Errno> {
        let (sender, receiver) = channel();
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Workers {
            sender,
            receiver,
            wake: Arc::new(rustix::event::eventfd(0, flags)?),
            running: 0,
        })
    }

    /// Does `work` elsewhere; here, if there can't be another thread.
    pub(crate) fn start(&mut self, work: Work) {
        self.running += 1;
        let sender = self.sender.clone();
        let wake = Arc::clone(&self.wake);
        // A thread that can't be made takes what it was given with it.
        let work = Arc::new(Mutex::new(Some(work)));
        let theirs = Arc::clone(&work);
        let made = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || run(&theirs, &sender, &wake));
        if let Err(error) = made {
            log::warn!("a thread: {error}");
            run(&work, &self.sender, &self.wake);
        }
    }

    /// What has been done since the last time.
    pub(crate) fn take(&mut self) -> Vec<Finish> {
        let mut count = [0; 8];
        match rustix::io::read(&*self.wake, &mut count) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(errno) => log::error!("eventfd: {errno}"),
        }
        let done: Vec<Finish> = self.receiver.try_iter().collect();
        self.running -= done.len();
        done
    }

    /// How many are under way.
    pub(crate) fn running(&self) -> usize {
        self.running
    }
}

fn run(work: &Mutex<Option<Work>>, sender: &Sender<Finish>, wake: &OwnedFd) {
    let work = work.lock().ok().and_then(|mut work| work.take());
    let Some(work) = work else { return };
    // The receiver lives as long as the process.
    if sender.send(work()).is_ok()
        && let Err(errno) = rustix::io::write(wake, &1_u64.to_ne_bytes())
    {
        log::error!("eventfd: {errno}");
    }
}

impl AsFd for Workers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
