//! The report: what init wrote about its steps, read as input from a hostile writer.
//!
//! A container's process can't reach the file, but whoever holds a descriptor of it
//! while it still is init could have written anything. So it is read with pread(2),
//! never mapped, and every number is checked.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use corten_init::abi::{DETAIL_MAX, Kind, REPORT_MAGIC, report};
use rustix::fs::{MemfdFlags, OFlags};
use rustix::io::Errno;

use crate::sys::{file, ipc};

/// Name of the file in the state directory.
const NAME: &str = "report";

/// An open report.
#[derive(Debug)]
pub(crate) struct Report {
    file: OwnedFd,
    steps: usize,
}

/// The step of init that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReportFailure {
    /// Index among init's steps.
    pub(crate) index: usize,
    pub(crate) errno: i32,
    pub(crate) kind: Kind,
    /// The object, or the file system's own words; printable.
    pub(crate) detail: String,
}

/// When a step began, in ns of CLOCK_MONOTONIC, and how it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) start: u64,
    pub(crate) outcome: u32,
    pub(crate) errno: i32,
}

impl Record {
    /// Whether the step did its work.
    pub(crate) fn is_ok(&self) -> bool {
        self.outcome == report::OK
    }
}

impl Report {
    /// Makes the file, with room for all steps: init must not find the disk full.
    pub(crate) fn make(dir: BorrowedFd<'_>, steps: usize) -> Result<Report, Errno> {
        let file = ipc::make_sized(dir, NAME, report::size(steps) as u64)?;
        Ok(Report { file, steps })
    }

    /// A report that only this program and init have.
    pub(crate) fn in_memory(steps: usize, flags: MemfdFlags) -> Result<Report, Errno> {
        let file = ipc::sized_memfd(c"corten-report", report::size(steps) as u64, flags)?;
        Ok(Report { file, steps })
    }

    /// Opens the file of a container that exists.
    pub(crate) fn open(dir: BorrowedFd<'_>, steps: usize) -> Result<Report, Errno> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
        Ok(Report {
            file: file::open_at(dir, Path::new(NAME), flags)?,
            steps,
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// All that is there now, in one read.
    fn read(&self) -> Result<Page, Errno> {
        let mut bytes = vec![0; report::size(self.steps)];
        ipc::pread_exact(self.fd(), &mut bytes, 0)?;
        Ok(Page {
            bytes,
            steps: self.steps,
        })
    }

    /// Index of the step begun last, if init began at all.
    pub(crate) fn current(&self) -> Result<Option<usize>, Errno> {
        self.read()?.current()
    }

    /// Pid of the process that stage 0 has made, whether or not it came to tell.
    pub(crate) fn cloned(&self) -> Result<Option<i32>, Errno> {
        let pid = self.read()?.word(report::CLONED)? as u32;
        Ok(i32::try_from(pid).ok().filter(|pid| *pid > 0))
    }

    /// The records of all steps, if init is at the last of them, which no failure ended.
    pub(crate) fn completed(&self) -> Result<Option<Vec<Record>>, Errno> {
        let page = self.read()?;
        let at_last = page
            .current()?
            .is_some_and(|current| current + 1 == self.steps);
        if at_last && page.failure()?.is_none() {
            page.records().map(Some)
        } else {
            Ok(None)
        }
    }

    /// The step that failed, if one did, and the one begun last.
    pub(crate) fn ending(&self) -> Result<(Option<ReportFailure>, Option<usize>), Errno> {
        let page = self.read()?;
        Ok((page.failure()?, page.current()?))
    }

    /// All steps' records.
    pub(crate) fn records(&self) -> Result<Vec<Record>, Errno> {
        self.read()?.records()
    }
}

/// A copy of a report.
struct Page {
    bytes: Vec<u8>,
    steps: usize,
}

impl Page {
    fn word(&self, offset: usize) -> Result<u64, Errno> {
        let word = self.bytes.get(offset..).and_then(|rest| rest.first_chunk());
        word.map(|word| u64::from_ne_bytes(*word))
            .ok_or(Errno::PROTO)
    }

    fn begun(&self) -> Result<bool, Errno> {
        Ok(self.word(report::MAGIC)? == REPORT_MAGIC)
    }

    fn current(&self) -> Result<Option<usize>, Errno> {
        if self.begun()? {
            self.position(self.word(report::CURRENT)?)
        } else {
            Ok(None)
        }
    }

    fn position(&self, position: u64) -> Result<Option<usize>, Errno> {
        match usize::try_from(position)
            .ok()
            .and_then(|position| position.checked_sub(1))
        {
            Some(index) if index < self.steps => Ok(Some(index)),
            Some(_) => Err(Errno::PROTO),
            None => Ok(None),
        }
    }

    fn failure(&self) -> Result<Option<ReportFailure>, Errno> {
        if !self.begun()? {
            return Ok(None);
        }
        let Some(index) = self.position(self.word(report::FAILED)?)? else {
            return Ok(None);
        };
        let cause = self.word(report::CAUSE)?;
        let len = usize::try_from(self.word(report::DETAIL_LEN)?).unwrap_or(usize::MAX);
        let detail = self.bytes.get(report::DETAIL..).unwrap_or(&[]);
        let detail = detail.get(..len.min(DETAIL_MAX)).unwrap_or(&[]);
        Ok(Some(ReportFailure {
            index,
            errno: i32::try_from(cause & 0xffff_ffff).unwrap_or(0),
            kind: Kind::from_number((cause >> 32) as u32),
            detail: printable(detail),
        }))
    }

    fn records(&self) -> Result<Vec<Record>, Errno> {
        let record = |index: usize| {
            let at = report::STEPS + index * report::STEP;
            let (start, end) = (self.word(at)?, self.word(at + 8)?);
            Ok(Record {
                start,
                outcome: end as u32,
                errno: (end >> 32) as i32,
            })
        };
        (0..self.steps).map(record).collect()
    }
}

/// One line that a terminal can show.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report_of(words: &[(usize, u64)]) -> Report {
        let dir = std::env::temp_dir().join(format!(
            "corten-report-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir_all(&dir).unwrap();
        let fd = file::open_dir_at(rustix::fs::CWD, &dir).unwrap();
        let report = Report::make(fd.as_fd(), 3).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        for (offset, word) in words {
            rustix::io::pwrite(&report.file, &word.to_ne_bytes(), *offset as u64).unwrap();
        }
        report
    }

    #[test]
    fn an_empty_report_has_no_current_step_and_no_failure() {
        let report = report_of(&[]);
        assert_eq!(report.current(), Ok(None));
        assert_eq!(report.ending(), Ok((None, None)));
    }

    #[test]
    fn a_report_is_complete_at_the_last_step_without_a_failure() {
        let last = (report::CURRENT, 3);
        let started = (report::MAGIC, REPORT_MAGIC);
        let completed = report_of(&[started, last]).completed().unwrap();
        assert_eq!(completed.map(|records| records.len()), Some(3));
        for words in [[started, (report::CURRENT, 2)], [last, (report::FAILED, 0)]] {
            assert_eq!(report_of(&words).completed(), Ok(None), "{words:?}");
        }
        let failed = report_of(&[started, last, (report::FAILED, 3)]);
        assert_eq!(failed.completed(), Ok(None));
    }

    #[test]
    fn a_pid_is_one_only_if_it_can_be() {
        let cloned = |word| report_of(&[(report::CLONED, word)]).cloned();
        assert_eq!(cloned(0), Ok(None));
        assert_eq!(cloned(7), Ok(Some(7)));
        assert_eq!(cloned(u64::from(u32::MAX)), Ok(None));
    }

    #[test]
    fn a_step_beyond_the_plan_is_refused() {
        let report = report_of(&[(report::MAGIC, REPORT_MAGIC), (report::FAILED, 4)]);
        assert_eq!(report.ending(), Err(Errno::PROTO));
    }

    #[test]
    fn a_detail_longer_than_its_place_is_cut() {
        let report = report_of(&[
            (report::MAGIC, REPORT_MAGIC),
            (report::FAILED, 3),
            (report::CAUSE, 2 | 4 << 32),
            (report::DETAIL_LEN, u64::MAX),
            (report::DETAIL, u64::from_ne_bytes(*b"a\x1b[31m\nb")),
        ]);
        let failure = report.ending().unwrap().0.unwrap();
        assert_eq!(
            (failure.index, failure.errno, failure.kind),
            (2, 2, Kind::NotInPath)
        );
        assert_eq!(failure.detail.len(), DETAIL_MAX);
        assert!(failure.detail.starts_with("a?[31m?b"), "{}", failure.detail);
    }

    #[test]
    fn a_truncated_report_is_an_error_and_no_crash() {
        let report = report_of(&[(report::MAGIC, REPORT_MAGIC)]);
        rustix::fs::ftruncate(&report.file, 20).unwrap();
        assert_eq!(report.ending(), Err(Errno::IO));
    }
}
