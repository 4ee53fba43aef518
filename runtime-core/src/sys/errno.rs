//! Error numbers as planning and reports use them, see errno(3).

#![allow(missing_docs, reason = "names of errno(3)")]

pub(crate) const EPERM: i32 = 1;
pub(crate) const ENOENT: i32 = 2;
pub(crate) const ENODEV: i32 = 19;
pub(crate) const ENOTDIR: i32 = 20;
pub(crate) const EROFS: i32 = 30;
pub(crate) const ENOSYS: i32 = 38;
