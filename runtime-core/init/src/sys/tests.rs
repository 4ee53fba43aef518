//! What is more than a call: maps of plans, fixed buffers, device numbers.

use std::io::Write;
use std::os::fd::AsRawFd;

use super::*;

/// A private map of a file with this content.
fn map(content: &[u8]) -> Map {
    let path = std::env::temp_dir().join(format!(
        "corten-map-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ));
    let mut file = std::fs::File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(content).unwrap();
    Map::new(Fd(file.as_raw_fd()), content.len(), false).unwrap()
}

fn words(words: &[u64], text: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.extend_from_slice(text);
    bytes
}

#[test]
fn a_map_gives_nothing_beyond_its_end() {
    let map = map(&words(&[1, 2], b"abc\0"));
    assert_eq!(map.word(0), Some(1));
    assert_eq!(map.word(8), Some(2));
    for offset in [1, 7, 13, 16, 24, usize::MAX, usize::MAX - 7] {
        assert_eq!(map.word(offset), None, "{offset}");
        assert_eq!(map.set_word(offset, 9), None, "{offset}");
    }
    assert_eq!(map.bytes(16, 4), Some(&b"abc\0"[..]));
    assert_eq!(map.bytes(20, 0), Some(&b""[..]));
    for (offset, len) in [(16, 5), (20, 1), (usize::MAX, 1), (1, usize::MAX)] {
        assert_eq!(map.bytes(offset, len), None, "{offset} {len}");
    }
    assert_eq!(map.set_byte(19, b'!'), Some(()));
    assert_eq!(map.set_byte(20, b'!'), None);
    assert_eq!(map.bytes(16, 4), Some(&b"abc!"[..]));
}

#[test]
fn a_table_has_its_strings_and_room_for_more() {
    // Two strings, two spare entries, and the strings behind them.
    let map = map(&words(&[32, 36, 0, 0], b"one\0two\0"));
    let table = map.table(0, 2, 2).unwrap();
    let strings: Vec<&CStr> = table.iter().collect();
    assert_eq!(strings, [c"one", c"two"]);
    map.set_entry(0, 2, c"three").unwrap();
    let strings: Vec<&CStr> = map.table_again(0, 4).unwrap().iter().collect();
    assert_eq!(strings, [c"one", c"two", c"three"]);
}

#[test]
fn a_table_that_points_out_of_the_map_is_none() {
    assert!(map(&words(&[24, 0], b"one\0")).table(0, 1, 1).is_none());
    assert!(
        map(&words(&[u64::MAX, 0], b"one\0"))
            .table(0, 1, 1)
            .is_none()
    );
    let short = map(&words(&[16, 0], b"one\0"));
    assert!(short.table(0, 1, 2).is_none(), "no room for the spare ones");
    assert!(short.table(4, 1, 0).is_none(), "not aligned");
    assert!(short.table(0, usize::MAX, 1).is_none());
    assert!(short.table_again(0, 0).is_none());
}

#[test]
fn room_for_strings_takes_what_fits_with_its_nul() {
    static ROOM: Strings<16> = Strings::new();
    let first = ROOM.add(&[b"HOME", b"=/r"]);
    assert_eq!(ROOM.add(&[b"/a long one"]), None);
    // What did not fit has taken nothing.
    assert_eq!(ROOM.add(&[b"LISTEN", b""]), Some(c"LISTEN"));
    assert_eq!(ROOM.add(&[]), Some(c""));
    assert_eq!(ROOM.add(&[]), None);
    assert_eq!(first, Some(c"HOME=/r"));
}

#[test]
fn a_device_number_is_the_kernels() {
    for (major, minor) in [
        (1, 3),
        (5, 2),
        (136, 255),
        (4095, 1_048_575),
        (8, 256),
        (0, 0),
    ] {
        let made = device(major, minor);
        // new_decode_dev() of linux/kdev_t.h.
        assert_eq!((made & 0xfff00) >> 8, u64::from(major));
        assert_eq!((made & 0xff) | ((made >> 12) & 0xfff00), u64::from(minor));
        assert!(made <= u64::from(u32::MAX));
    }
}

#[test]
fn an_errno_is_what_the_kernel_answered() {
    assert_eq!(close(Fd(-1)), Err(Errno(errno::EBADF)));
    let missing = openat2(CWD, c"/nothing/here", flag::O_PATH, 0);
    assert_eq!(missing, Err(Errno(errno::ENOENT)));
    // What openat2 does not know is refused, never ignored.
    let unknown = openat2(CWD, c"/", 1 << 62, 0);
    assert_eq!(unknown, Err(Errno(errno::EINVAL)));
    assert_eq!(check(-4095), Err(Errno(4095)));
    assert_eq!(check(-4096), Ok(-4096i64 as u64));
}

#[test]
fn what_statx_says_is_read_from_the_right_places() {
    let null = stat(CWD, c"/dev/null").unwrap();
    assert!(null.is(flag::S_IFCHR));
    assert_eq!((null.major, null.minor), (1, 3));
    let root = stat(CWD, c"/").unwrap();
    assert!(root.is(flag::S_IFDIR) && !root.is(flag::S_IFREG));
    let meta = std::fs::metadata("/proc/self/exe").unwrap();
    let exe = stat(CWD, c"/proc/self/exe").unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((exe.inode, exe.size), (meta.ino(), meta.len()));
    assert_eq!(exe.mode, meta.mode());
}
