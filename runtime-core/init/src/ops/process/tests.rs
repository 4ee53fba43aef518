//! /etc/passwd as a stranger may have written it.

use std::os::fd::AsRawFd;

use super::*;

/// The line of a user in a file with this content.
fn line_of(passwd: &[u8], uid: u32) -> Option<Vec<u8>> {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let content = passwd.to_vec();
    // A pipe holds less than some of the contents.
    let feeder = std::thread::spawn(move || {
        // It ends early when the reader has what it wants.
        std::io::Write::write_all(&mut writer, &content).is_ok()
    });
    let mut line = [0; LINE_MAX];
    let found = find_line(Fd(reader.as_raw_fd()), uid, &mut line);
    drop(reader);
    feeder.join().unwrap();
    found.map(|len| line[..len].to_vec())
}

fn home_of(passwd: &[u8], uid: u32) -> Option<String> {
    let line = line_of(passwd, uid)?;
    field(&line, 5).map(|home| String::from_utf8_lossy(home).into_owned())
}

#[test]
fn a_home_is_the_sixth_field_of_the_first_line_with_the_uid() {
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\nother:x:33:1::/no:\n";
    assert_eq!(home_of(passwd, 0).unwrap(), "/root");
    assert_eq!(home_of(passwd, 33).unwrap(), "/srv");
    assert_eq!(home_of(passwd, 3), None);
}

#[test]
fn a_last_line_needs_no_line_break() {
    assert_eq!(home_of(b"web:x:33:33::/srv", 33).unwrap(), "/srv");
}

#[test]
fn what_is_no_line_of_a_user_is_passed_over() {
    let passwd = b"\n\n:\nweb\nweb:x\nweb:x:33x:0::/no:\nweb:x:+33:0::/no:\n\
                   web:x: 33:0::/no:\nweb:x::0::/no:\nweb:x:33:0::/srv:";
    assert_eq!(home_of(passwd, 33).unwrap(), "/srv");
}

#[test]
fn a_user_without_a_sixth_field_has_no_home() {
    assert_eq!(home_of(b"web:x:33:33\n", 33), None);
    assert_eq!(home_of(b"web:x:33:33::\n", 33).unwrap(), "");
}

#[test]
fn a_line_that_is_too_long_is_passed_over_and_the_next_one_is_read() {
    let mut passwd = b"web:x:33:33:".to_vec();
    passwd.resize(LINE_MAX + 100, b'a');
    passwd.extend_from_slice(b":/no:\nweb:x:33:33::/srv:\n");
    assert_eq!(home_of(&passwd, 33).unwrap(), "/srv");
    let mut longest = b"web:x:33:33:".to_vec();
    longest.resize(LINE_MAX - 5, b'a');
    longest.extend_from_slice(b":/srv");
    assert_eq!(longest.len(), LINE_MAX);
    assert_eq!(home_of(&longest, 33).unwrap(), "/srv");
}

#[test]
fn a_line_behind_the_first_mebibyte_is_not_found() {
    let mut passwd = vec![b'\n'; PASSWD_MAX + 4096];
    passwd.extend_from_slice(b"web:x:33:33::/srv:\n");
    assert_eq!(home_of(&passwd, 33), None);
    let one_line = vec![b'a'; PASSWD_MAX + 4096];
    assert_eq!(home_of(&one_line, 33), None);
}

#[test]
fn an_uid_is_a_decimal_number_of_32_bits() {
    for (text, value) in [
        (&b"0"[..], Some(0)),
        (b"007", Some(7)),
        (b"4294967295", Some(u32::MAX)),
        (b"4294967296", None),
        (b"99999999999999999999", None),
        (b"", None),
        (b"-1", None),
        (b"+1", None),
        (b"1 ", None),
        (b"0x1", None),
        (b"\xff", None),
    ] {
        assert_eq!(number(text), value, "{text:?}");
    }
}

#[test]
fn a_field_is_what_lies_between_two_colons() {
    assert_eq!(field(b"a:b:c", 0), Some(&b"a"[..]));
    assert_eq!(field(b"a:b:c", 2), Some(&b"c"[..]));
    assert_eq!(field(b"a::c", 1), Some(&b""[..]));
    assert_eq!(field(b"a:b:c", 3), None);
    assert_eq!(field(b"", 0), Some(&b""[..]));
}
