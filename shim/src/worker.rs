//! [`Workers`]: threads for what takes time, one for each operation.
//!
//! Create, start and delete wait for processes, mounts wait for disks. Each gets a thread,
//! so that a slow one holds up nobody else; and an idle shim has none.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use rustix::event::EventfdFlags;
use rustix::io::Errno;

use crate::daemon::Shim;
use crate::server::Reply;

/// Who wants an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A caller, as long as it is there to hear the answer.
    By(Reply),
    /// The shim itself: something has to be finished.
    ByShim,
    /// Nobody who would wait for its end: it carries output of a process, or ends something else
    /// that hangs.
    ByNobody,
}

/// An operation that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) wanted: Wanted,
    /// The container that it looks up by its name: there must not be another one of that name
    /// before it is over.
    pub(crate) container: Option<String>,
}

impl Job {
    pub(crate) fn new(wanted: Wanted) -> Job {
        Job {
            wanted,
            container: None,
        }
    }

    /// One that a caller waits for.
    pub(crate) fn by(reply: Reply) -> Job {
        Job::new(Wanted::By(reply))
    }
}

/// What is done with a result, on the thread that owns all state.
pub(crate) type Finish = Box<dyn FnOnce(&mut Shim) + Send>;

/// What takes time.
pub(crate) type Work = Box<dyn FnOnce() -> Finish + Send>;

/// The library parses JSON recursively and keeps paths on the stack; seen: below 64 KiB.
const STACK: usize = 512 << 10;

#[derive(Debug)]
pub(crate) struct Workers {
    sender: Sender<(u64, Finish)>,
    receiver: Receiver<(u64, Finish)>,
    wake: Arc<OwnedFd>,
    next: u64,
    jobs: BTreeMap<u64, Job>,
}

impl Workers {
    pub(crate) fn new() -> Result<Workers, Errno> {
        let (sender, receiver) = channel();
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Workers {
            sender,
            receiver,
            wake: Arc::new(rustix::event::eventfd(0, flags)?),
            next: 0,
            jobs: BTreeMap::new(),
        })
    }

    /// Does `work` elsewhere; here, if there can't be another thread.
    pub(crate) fn start(&mut self, job: Job, work: Work) {
        let number = self.next;
        self.next += 1;
        self.jobs.insert(number, job);
        let sender = self.sender.clone();
        let wake = Arc::clone(&self.wake);
        // A thread that can't be made takes what it was given with it.
        let work = Arc::new(Mutex::new(Some(work)));
        let theirs = Arc::clone(&work);
        let made = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || run(number, &theirs, &sender, &wake));
        if let Err(error) = made {
            log::warn!("a thread: {error}");
            run(number, &work, &self.sender, &self.wake);
        }
    }

    /// What has been done since the last time.
    pub(crate) fn take(&mut self) -> Vec<Finish> {
        let mut count = [0; 8];
        match rustix::io::read(&*self.wake, &mut count) {
            Ok(_) | Err(Errno::AGAIN) => {}
            Err(errno) => log::error!("eventfd: {errno}"),
        }
        let done: Vec<(u64, Finish)> = self.receiver.try_iter().collect();
        let numbers = done.iter();
        numbers.for_each(|(number, _)| drop(self.jobs.remove(number)));
        done.into_iter().map(|(_, finish)| finish).collect()
    }

    /// What is under way.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values()
    }
}

fn run(number: u64, work: &Mutex<Option<Work>>, sender: &Sender<(u64, Finish)>, wake: &OwnedFd) {
    let work = work.lock().ok().and_then(|mut work| work.take());
    let Some(work) = work else { return };
    // The receiver lives as long as the process.
    if sender.send((number, work())).is_ok()
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
