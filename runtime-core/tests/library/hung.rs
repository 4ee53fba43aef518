//! A process that hangs in the kernel: a FUSE server that never answers.
//!
//! Its request can't be taken back once the server has read it, so no signal ends the
//! wait. It ends when the connection is aborted. See the kernel's filesystems/fuse.

use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::mpsc;

use corten_core::{CreateOptions, Delete, ErrorKind};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::json;

use crate::lab::{self, LIMIT};

/// Request numbers of linux/fuse.h.
const INIT: u32 = 26;
const GETATTR: u32 = 3;
const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

const HEADER: usize = 16;

/// A mounted file system whose files can't even be looked up.
struct Fuse {
    asked: mpsc::Receiver<()>,
}

impl Fuse {
    fn mount(on: &Path) -> Fuse {
        let node = Path::new("/dev/fuse");
        let number = rustix::fs::makedev(10, 229);
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, node, FileType::CharacterDevice, mode, number)
            .expect("the lane's /dev is its own");
        let device = rustix::fs::open(node, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .expect("the kernel has FUSE");
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
            device.as_raw_fd()
        );
        let options = std::ffi::CString::new(options).expect("no NUL");
        rustix::mount::mount("fuse", on, "fuse", MountFlags::empty(), options.as_c_str())
            .expect("root may mount");
        let (told, asked) = mpsc::channel();
        let mut server = std::fs::File::from(device);
        std::thread::spawn(move || {
            let mut request = vec![0; 1 << 17];
            // Ends when the connection is aborted.
            while let Ok(length) = server.read(&mut request) {
                let number = |at: usize| {
                    let bytes = request[at..at + 4].try_into().expect("four bytes");
                    u32::from_le_bytes(bytes)
                };
                assert!(length >= 40, "a request has a header");
                let (error, body) = match number(4) {
                    INIT => (0, init()),
                    GETATTR => (0, directory()),
                    LOOKUP => {
                        told.send(()).expect("the test waits");
                        continue;
                    }
                    // No answer is given to these.
                    FORGET | BATCH_FORGET | INTERRUPT => continue,
                    _ => (-libc::ENOSYS, Vec::new()),
                };
                let mut answer = Vec::with_capacity(HEADER + body.len());
                let size = u32::try_from(HEADER + body.len()).expect("it is small");
                answer.extend(size.to_le_bytes());
                answer.extend(error.to_le_bytes());
                answer.extend(&request[8..16]);
                answer.extend(body);
                server.write_all(&answer).expect("the kernel waits for it");
            }
        });
        Fuse { asked }
    }

    /// Ends every wait, and the server with them; this connection's and no other's.
    fn abort(&self, on: &Path) {
        use std::os::unix::fs::MetadataExt as _;
        let device = std::fs::metadata(on).expect("it is mounted").dev();
        let control = Path::new("/sys/fs/fuse/connections");
        rustix::mount::mount("fusectl", control, "fusectl", MountFlags::empty(), None)
            .expect("root may mount");
        let connection = control.join(rustix::fs::minor(device).to_string());
        std::fs::write(connection.join("abort"), "1").expect("root may");
        for mounted in [control, on] {
            rustix::mount::unmount(mounted, UnmountFlags::DETACH).expect("ours");
        }
    }
}

/// `struct fuse_init_out` of version 7.31.
fn init() -> Vec<u8> {
    let mut body = vec![0; 64];
    body[0..4].copy_from_slice(&7u32.to_le_bytes());
    body[4..8].copy_from_slice(&31u32.to_le_bytes());
    body[20..24].copy_from_slice(&4096u32.to_le_bytes());
    body
}

/// `struct fuse_attr_out` of a directory.
fn directory() -> Vec<u8> {
    let mut body = vec![0; 104];
    body[0..8].copy_from_slice(&3600u64.to_le_bytes());
    body[16..24].copy_from_slice(&1u64.to_le_bytes());
    body[76..80].copy_from_slice(&0o040_755u32.to_le_bytes());
    body[80..84].copy_from_slice(&2u32.to_le_bytes());
    body
}

#[test]
fn what_can_not_be_paused_or_killed_is_named_and_a_repeat_finishes() {
    lab::test(|lab| {
        let source = lab.folder().join("fuse");
        std::fs::create_dir(&source).expect("the lab's folder is writable");
        let fuse = Fuse::mount(&source);
        let mut folder = lab.bundle(&["read-file", "/fuse/file"]);
        let mount = json!({
            "destination": "/fuse", "type": "bind", "source": source, "options": ["bind"]
        });
        folder.push("/mounts", mount);
        let mut container = lab.create(&folder, CreateOptions::default());
        let (id, pid) = (container.id().to_owned(), container.pid());
        lab::done(container.start());
        fuse.asked.recv_timeout(LIMIT).expect("the container looks");

        let told = format!("{:#}", container.pause().expect_err("it hangs"));
        let named = format!("process {pid} (state D");
        assert!(told.contains(&named), "{told}");
        // It was let go on: nothing is half paused.
        let state = lab::done(container.state());
        assert_eq!(state.status.to_string(), "running");

        let error = container.delete(Delete::Force).expect_err("it hangs");
        let told = format!("{error:#}");
        assert!(told.contains(&named), "{told}");
        assert_eq!(error.kind(), ErrorKind::Other);

        fuse.abort(&source);
        lab::delete(lab::done(lab.runtime.container(&id)));
        std::fs::remove_dir(&source).expect("unmounted");
    });
}
