//! Mapped files, tables of strings, and buffers that last until exec.
//!
//! See mmap(2). init has no allocator.

use core::cell::{Cell, UnsafeCell};
use core::ffi::CStr;

use super::numbers as nr;
use super::{Fd, Result, call, fd};

/// A table of pointers to strings that ends with a null: argv or envp.
///
/// Made only by [`Map::table`], which has turned offsets into pointers.
#[derive(Clone, Copy)]
pub struct Table<'a>(pub(super) &'a [u64]);

impl<'a> Table<'a> {
    /// The strings, in order.
    pub fn iter(self) -> impl Iterator<Item = &'a CStr> {
        self.0.iter().take_while(|at| **at != 0).map(|at| {
            // SAFETY: `Map::table` and `Map::set_entry` store only addresses of strings
            // that end with a NUL and live as long as the process.
            unsafe { CStr::from_ptr(*at as *const core::ffi::c_char) }
        })
    }
}

/// A file mapped into memory, for the life of the process.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    base: u64,
    len: usize,
}

impl Map {
    /// `mmap(2)` of the first `len` bytes of a file, readable and writable; of a shared map they
    /// are the file's.
    pub fn new(file: Fd, len: usize, shared: bool) -> Result<Map> {
        Self::near(beside_the_code(), file, len, shared)
    }

    /// As [`Map::new`], behind this one.
    pub fn behind(&self, file: Fd, len: usize, shared: bool) -> Result<Map> {
        // The largest page of any machine; a place inside one would be rounded down.
        const PAGE: u64 = 64 << 10;
        let end = self.base.wrapping_add(self.len as u64);
        let place = end.wrapping_add(PAGE - 1) & !(PAGE - 1);
        Self::near(place, file, len, shared)
    }

    fn near(place: u64, file: Fd, len: usize, shared: bool) -> Result<Map> {
        const PROT_READ_WRITE: u64 = 3;
        let kind = if shared { 1 } else { 2 };
        let base = call(
            nr::MMAP,
            &[place, len as u64, PROT_READ_WRITE, kind, fd(file), 0],
        )?;
        Ok(Map { base, len })
    }

    /// The bytes of `range`, or none if it is not all inside.
    #[must_use]
    pub fn bytes(&self, offset: usize, len: usize) -> Option<&'static [u8]> {
        let end = offset.checked_add(len)?;
        if end > self.len {
            return None;
        }
        let at = (self.base as usize).wrapping_add(offset) as *const u8;
        // SAFETY: the range lies in the mapping, which is never unmapped; init writes
        // to the plan only in the tables, through `set_word`, and takes no byte slice
        // of those.
        Some(unsafe { core::slice::from_raw_parts(at, len) })
    }

    /// The word at a byte offset that is a multiple of 8.
    #[must_use]
    pub fn word(&self, offset: usize) -> Option<u64> {
        self.word_at(offset).map(|at| {
            // SAFETY: `word_at` gives an aligned address inside the mapping.
            unsafe { at.read_volatile() }
        })
    }

    /// Stores a word at a byte offset that is a multiple of 8.
    pub fn set_word(&self, offset: usize, word: u64) -> Option<()> {
        self.word_at(offset).map(|at| {
            // SAFETY: `word_at` gives an aligned address inside the mapping, which is
            // writable.
            unsafe { at.write_volatile(word) }
        })
    }

    /// The address of the word at a byte offset that is a multiple of 8.
    pub(super) fn address(&self, offset: usize) -> Option<u64> {
        self.word_at(offset).map(|at| at as u64)
    }

    /// Stores one byte.
    pub fn set_byte(&self, offset: usize, byte: u8) -> Option<()> {
        if offset >= self.len {
            return None;
        }
        let at = (self.base as usize).wrapping_add(offset) as *mut u8;
        // SAFETY: the address lies inside the mapping, which is writable.
        unsafe { at.write_volatile(byte) };
        Some(())
    }

    fn word_at(&self, offset: usize) -> Option<*mut u64> {
        if offset & 7 != 0 || offset.checked_add(8)? > self.len {
            return None;
        }
        Some((self.base as usize).wrapping_add(offset) as *mut u64)
    }

    /// Turns `count` offsets at `offset` into pointers, in place, and gives the table
    /// with its spare entries.
    pub fn table(&self, offset: usize, count: usize, spare: usize) -> Option<Table<'static>> {
        let entries = count.checked_add(spare)?;
        for index in 0..count {
            let at = offset.checked_add(index.checked_mul(8)?)?;
            let string = self.word(at)? as usize;
            // The string must lie in the mapping; it ends with a NUL by construction,
            // and the plan's last byte is one.
            self.bytes(string, 1)?;
            self.set_word(at, self.base.wrapping_add(string as u64))?;
        }
        self.table_again(offset, entries)
    }

    /// The table of `entries` pointers at `offset`, once [`Map::table`] has made it.
    #[must_use]
    pub fn table_again(&self, offset: usize, entries: usize) -> Option<Table<'static>> {
        self.word_at(offset)?;
        self.word_at(
            offset
                .checked_add(entries.checked_mul(8)?)?
                .checked_sub(8)?,
        )?;
        let at = (self.base as usize).wrapping_add(offset) as *const u64;
        // SAFETY: all entries lie inside the mapping and are aligned (checked above).
        // `set_entry` may store another pointer later: volatile, and only before the
        // table is read again.
        Some(Table(unsafe { core::slice::from_raw_parts(at, entries) }))
    }

    /// Stores a pointer to `string` at entry `index` of the table at `offset`.
    ///
    /// The buffer must be one that lives until `execve(2)`.
    pub fn set_entry(&self, offset: usize, index: usize, string: &'static CStr) -> Option<()> {
        let at = offset.checked_add(index.checked_mul(8)?)?;
        self.set_word(at, string.as_ptr() as u64)
    }
}

/// Where the kernel is asked to put a map, if nothing is there: what one page table describes
/// with init's code. Page tables are charged to the container; elsewhere it would take two more.
fn beside_the_code() -> u64 {
    // What a table of 512 entries for pages of 4 KiB describes.
    const TABLE: u64 = 2 << 20;
    let code = Map::new as *const () as u64;
    (code & !(TABLE - 1)) | (TABLE / 2)
}

/// Room for strings that live as long as the process, one behind the other: those of an
/// ordinary container are all in its first page.
#[repr(C)] // so that what is counted is in that page
pub struct Strings<const N: usize> {
    used: Cell<usize>,
    room: UnsafeCell<[u8; N]>,
}

// SAFETY: init has one thread.
unsafe impl<const N: usize> Sync for Strings<N> {}

impl<const N: usize> Strings<N> {
    /// Empty room.
    #[must_use]
    pub const fn new() -> Self {
        Strings {
            used: Cell::new(0),
            room: UnsafeCell::new([0; N]),
        }
    }

    /// Puts the concatenation of `parts` behind what is there and gives it as a string;
    /// `None` when it does not fit.
    pub fn add(&'static self, parts: &[&[u8]]) -> Option<&'static CStr> {
        let start = self.used.get();
        let mut end = start;
        for byte in parts.iter().flat_map(|part| part.iter()).chain(&[0]) {
            if end >= N {
                return None;
            }
            // SAFETY: inside the room, behind all strings that were given out; init has one
            // thread.
            unsafe { self.room.get().cast::<u8>().add(end).write(*byte) };
            end = end.wrapping_add(1);
        }
        self.used.set(end);
        // SAFETY: written above, inside the room, and never written again.
        let written = unsafe {
            core::slice::from_raw_parts(
                self.room.get().cast::<u8>().add(start),
                end.wrapping_sub(start),
            )
        };
        CStr::from_bytes_until_nul(written).ok()
    }
}

impl<const N: usize> Default for Strings<N> {
    fn default() -> Self {
        Self::new()
    }
}
