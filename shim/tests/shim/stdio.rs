//! Standard input and output: fifos, files, loggers, terminals.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::Path;

use corten_conformance::lane;
use corten_shim::proto::Empty;
use corten_shim::proto::task::{CloseIoRequest, ExecProcessRequest, ResizePtyRequest};
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::fake::container::{RUNNING, Web, open_reader, read};
use crate::fake::{self, Containerd, Version};

#[test]
fn output_arrives_whole_and_delete_waits_for_it() {
    lane::test(|| {
        let mut web = Web::new("seq 100000; exit 0");
        let mut stdout = web.stdout();
        web.run();
        // More than all pipes hold: the container is still writing.
        let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
        assert_eq!(read(&mut stdout, expected.len()), expected);
        assert_eq!(web.wait("").unwrap(), 0);
        web.delete("").unwrap();
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut stdout, &mut rest).unwrap();
        assert_eq!(rest, "", "the end follows at once");
        web.client.shutdown();
    });
}

#[test]
fn a_reader_that_is_gone_or_slow_holds_up_only_its_own_container() {
    lane::test(|| {
        let mut web = Web::new("seq 1000000");
        let mut stdout = web.stdout();
        web.run();
        read(&mut stdout, 10);
        drop(stdout);
        // Its pipes fill up; calls and other containers go on.
        let Web {
            containerd,
            client,
            bundle,
            ..
        } = web;
        let mut other = Web::with(containerd, client, "other", "echo hello");
        let mut hello = other.stdout();
        other.run();
        assert_eq!(read(&mut hello, 6), "hello\n");
        assert_eq!(other.wait("").unwrap(), 0);
        other.delete("").unwrap();
        // A reader that comes back reads on: the container was neither killed nor told.
        let mut again = open_reader(&bundle.join("stdout"));
        read(&mut again, 200_000);
        other.id = "web".to_owned();
        other.bundle = bundle;
        assert_eq!(other.state("").unwrap().status, RUNNING);
        drop(again);
        other.kill("", 9, true).unwrap();
        other.wait("").unwrap();
        let reader = open_reader(&other.bundle.join("stdout"));
        let drained = std::thread::spawn(move || std::io::copy(&mut &reader, &mut std::io::sink()));
        other.delete("").unwrap();
        drained.join().unwrap().unwrap();
        other.client.shutdown();
    });
}

#[test]
fn input_goes_through_until_it_is_closed() {
    lane::test(|| {
        let mut web = Web::new("cat; echo end");
        let mut stdout = web.stdout();
        let stdin = web.fifo("stdin");
        web.request.stdin = stdin.display().to_string();
        web.run();
        for word in ["one\n", "two\n"] {
            // Each client that goes away leaves the input open.
            let mut client = std::fs::OpenOptions::new()
                .write(true)
                .open(&stdin)
                .unwrap();
            client.write_all(word.as_bytes()).unwrap();
            drop(client);
            assert_eq!(read(&mut stdout, 4), word);
        }
        let request = CloseIoRequest {
            id: "web".to_owned(),
            exec_id: String::new(),
            stdin: true,
        };
        let _: Empty = web.client.call("CloseIO", &request).unwrap();
        assert_eq!(read(&mut stdout, 4), "end\n");
        web.wait("").unwrap();
        web.delete("").unwrap();
        web.client.shutdown();
    });
}

#[test]
fn input_that_nobody_reads_holds_up_nobody_and_goes_with_its_container() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        let stdin = web.fifo("stdin");
        web.request.stdin = stdin.display().to_string();
        web.run();
        let mut options = std::fs::OpenOptions::new();
        let mut writer = options.write(true).open(&stdin).unwrap();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        // The container's pipe, what the shim holds, and the fifo.
        let mut taken = 0;
        let full = || {
            while let Ok(count) = writer.write(&[b'x'; 4096]) {
                taken += count;
            }
            (taken >= 2 * (64 << 10)).then_some(())
        };
        assert!(corten_conformance::wait::until(fake::LIMIT, full).is_some());
        web.add_exec("one", "exit 3").unwrap();
        web.start("one").unwrap();
        assert_eq!(web.wait("one").unwrap(), 3);
        assert!(taken < 1 << 20, "{taken} bytes are held");
        web.end();
    });
}

#[test]
fn a_terminal_has_a_size_and_input_and_drains_to_the_end() {
    lane::test(|| {
        let mut web = Web::new("read line; stty size; seq 10000; echo bye");
        web.config["process"]["terminal"] = serde_json::json!(true);
        web.request.terminal = true;
        let mut stdout = web.stdout();
        let stdin = web.fifo("stdin");
        web.request.stdin = stdin.display().to_string();
        web.run();
        let request = ResizePtyRequest {
            id: "web".to_owned(),
            exec_id: String::new(),
            width: 97,
            height: 31,
        };
        let _: Empty = web.client.call("ResizePty", &request).unwrap();
        let mut client = std::fs::OpenOptions::new()
            .write(true)
            .open(&stdin)
            .unwrap();
        client.write_all(b"go\n").unwrap();
        assert_eq!(read(&mut stdout, 11), "go\r\n31 97\r\n");
        let expected: String = (1..=10_000).map(|n| format!("{n}\r\n")).collect();
        let expected = expected + "bye\r\n";
        assert_eq!(read(&mut stdout, expected.len()), expected);
        assert_eq!(web.wait("").unwrap(), 0);
        web.delete("").unwrap();
        web.client.shutdown();
    });
}

#[test]
fn a_shim_ends_after_an_exec_with_a_terminal() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.run();
        let shim = web.client.shim_pid();
        let before = web.descriptors();
        let (stdin, stdout) = (web.fifo("exec-stdin"), web.fifo("exec-stdout"));
        let mut output = open_reader(&stdout);
        // Both its ends, as those of `ctr` may stay open behind the exec.
        let mut options = std::fs::OpenOptions::new();
        let mut input = options.read(true).write(true).open(&stdin).unwrap();
        let process = r#"{"args":["/bin/sh"],"cwd":"/","env":["PATH=/bin"],"terminal":true}"#;
        let request = ExecProcessRequest {
            id: "web".to_owned(),
            exec_id: "tty".to_owned(),
            terminal: true,
            stdin: stdin.display().to_string(),
            stdout: stdout.display().to_string(),
            spec: Some(corten_shim::proto::Any {
                type_url: String::new(),
                value: process.as_bytes().to_vec(),
            }),
            ..ExecProcessRequest::default()
        };
        web.client.call::<Empty>("Exec", &request).unwrap();
        web.start("tty").unwrap();
        // Something in the background has the terminal still open when the shell ends.
        input
            .write_all(b"stty -echo; PS1=; (sleep 0.1 &); echo h''ello; exit 7\n")
            .unwrap();
        assert_eq!(web.wait("tty").unwrap(), 7);
        web.delete("tty").unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut output, &mut text).unwrap();
        assert!(text.contains("hello"), "{text}");
        assert_eq!(web.descriptors(), before, "of the terminal nothing stays");
        web.kill("", 9, true).unwrap();
        web.wait("").unwrap();
        web.delete("").unwrap();
        web.client.shutdown();
        fake::gone(shim);
        drop(input);
    });
}

#[test]
fn output_to_a_file_has_both_streams() {
    lane::test(|| {
        let mut web = Web::new("echo out; echo err >&2");
        web.request.stdout = "file:///run/fake/logs/deep/web.log".to_owned();
        web.run();
        web.wait("").unwrap();
        web.delete("").unwrap();
        let mut lines: Vec<String> = std::fs::read_to_string("/run/fake/logs/deep/web.log")
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect();
        lines.sort();
        assert_eq!(lines, ["err", "out"]);
        web.client.shutdown();
    });
}

#[test]
fn a_file_that_is_a_fifo_waits_for_no_reader() {
    lane::test(|| {
        let mut web = Web::new("echo out; echo err >&2; sleep 1000");
        let fifo = web.fifo("log.fifo");
        let name = format!("file://{}", fifo.display());
        web.request.stdout = name.clone();
        web.run();
        web.add_exec_to("one", "echo one", &name).unwrap();
        web.start("one").unwrap();
        assert_eq!(web.wait("one").unwrap(), 0);
        web.delete("one").unwrap();
        // It is kept for who comes later.
        let mut reader = open_reader(&fifo);
        let text = read(&mut reader, 12);
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["err", "one", "out"]);
        web.end();
    });
}

#[test]
fn a_file_that_takes_nothing_holds_up_only_its_own_stream() {
    lane::test(|| {
        let mut web = Web::new("seq 100000; echo end >&2");
        // A terminal stands for a disk that hangs: a write to it waits.
        let (disk, log) = corten_conformance::console::open().unwrap();
        let mut raw = rustix::termios::tcgetattr(&log).unwrap();
        raw.make_raw();
        rustix::termios::tcsetattr(&log, rustix::termios::OptionalActions::Now, &raw).unwrap();
        let mut disk = std::fs::File::from(disk);
        let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&log));
        let name = std::fs::read_link(name).unwrap();
        web.request.stdout = format!("file://{}", name.display());
        let pid = web.run();
        let pipe = std::fs::OpenOptions::new()
            .write(true)
            .open(format!("/proc/{pid}/fd/1"))
            .unwrap();
        // Both are full: whoever carries from one to the other waits.
        let full = || {
            let is_full = |fd: std::os::fd::BorrowedFd<'_>| {
                let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::OUT)];
                rustix::event::poll(&mut fds, Some(&Timespec::default())).unwrap() == 0
            };
            (is_full(log.as_fd()) && is_full(pipe.as_fd())).then_some(())
        };
        assert!(corten_conformance::wait::until(fake::LIMIT, full).is_some());
        drop(pipe);
        for _ in 0..3 {
            assert_eq!(web.state("").unwrap().status, RUNNING);
        }
        // It works again: nothing is lost.
        let expected: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
        let text = read(&mut disk, expected.len() + 4);
        // Each stream has a pipe of its own: one may overtake the other, in the middle of a line.
        assert!(
            text.contains("end\n") && text.replacen("end\n", "", 1) == expected,
            "{}",
            &text[text.len() - 50..]
        );
        assert_eq!(web.wait("").unwrap(), 0);
        web.delete("").unwrap();
        web.client.shutdown();
    });
}

#[test]
fn a_logger_gets_output_arguments_and_time_to_finish() {
    lane::test(|| {
        let mut web = Web::new("echo out; echo err >&2");
        let script = "trap : TERM\nenv >/run/fake/env\necho \"$@\" >/run/fake/args\n\
                      exec 5>&-\ncat <&3 >/run/fake/out\ncat <&4 >/run/fake/err\n\
                      echo done >/run/fake/done\n";
        web.request.stdout = format!("{}?key=a%20b&env.X=y", web.logger(script));
        web.run();
        assert_eq!(web.wait("").unwrap(), 0);
        web.delete("").unwrap();
        // The shim ends when its logger has.
        web.client.shutdown();
        let text = |name: &str| std::fs::read_to_string(Path::new("/run/fake").join(name)).unwrap();
        assert_eq!((&*text("out"), &*text("err")), ("out\n", "err\n"));
        assert_eq!(text("args"), "key a b\n");
        assert_eq!(text("done"), "done\n");
        let environment = text("env");
        for line in ["CONTAINER_ID=web", "CONTAINER_NAMESPACE=test", "X=y"] {
            assert!(environment.lines().any(|l| l == line), "{environment}");
        }
        assert!(!environment.contains("TTRPC"), "{environment}");
    });
}

#[test]
fn a_logger_that_has_died_is_reaped_and_so_are_orphans_behind_it() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.request.stdout = web.logger("exit 0");
        web.config["linux"]["namespaces"] = crate::task::without_pid(&web.config).into();
        let init = web.run();
        let shim = web.client.shim_pid();
        fake::children(shim, &[init]);
        // An orphan comes to the shim, and ends.
        web.add_exec("parent", "(exec 3<>/dev/null; sleep 0.01) & exit 0")
            .unwrap();
        web.start("parent").unwrap();
        web.wait("parent").unwrap();
        fake::children(shim, &[init]);
        web.end();
    });
}

#[test]
fn a_logger_ends_with_the_create_that_failed() {
    lane::test(|| {
        let mut web = Web::new("sleep 1000");
        web.request.stdout = web.logger(
            "echo $$ >/run/fake/pid; PATH=/bin:/usr/bin; \
             grep SigBlk /proc/self/status >/run/fake/signals; exec 5>&-; exec sleep 1000",
        );
        // The last that can fail: there is a container already.
        std::fs::create_dir(web.bundle.join("init.pid")).unwrap();
        assert!(web.create().unwrap_err().message.contains("init.pid"));
        let signals = std::fs::read_to_string("/run/fake/signals").unwrap();
        assert_eq!(
            signals, "SigBlk:\t0000000000000000\n",
            "else SIGTERM does not end it"
        );
        let pid = std::fs::read_to_string("/run/fake/pid").unwrap();
        fake::gone(pid.trim().parse().unwrap());
        let shim = web.client.shim_pid();
        fake::children(shim, &[]);
        web.client.shutdown();
    });
}

#[test]
fn a_logger_ends_with_an_input_that_is_not_there() {
    lane::test(|| {
        for terminal in [false, true] {
            let mut web = Web::new("sleep 1000");
            web.request.stdout = web.logger("echo $$ >/run/fake/pid; exec 5>&-; exec sleep 1000");
            web.request.stdin = "/run/fake/nothing".to_owned();
            web.request.terminal = terminal;
            web.config["process"]["terminal"] = terminal.into();
            assert!(web.create().unwrap_err().message.contains("nothing"));
            let pid = std::fs::read_to_string("/run/fake/pid").unwrap();
            fake::gone(pid.trim().parse().unwrap());
            fake::children(web.client.shim_pid(), &[]);
            web.client.shutdown();
            std::fs::remove_dir_all("/run/fake").unwrap();
        }
    });
}

#[test]
fn an_unknown_scheme_is_refused() {
    lane::test(|| {
        let mut web = Web::new("true");
        web.request.stdout = "gopher://x".to_owned();
        assert!(web.create().unwrap_err().message.contains("gopher"));
        web.client.shutdown();
    });
}

#[test]
fn pipes_belong_to_the_user_of_the_options() {
    lane::test(|| {
        let mut containerd = Containerd::new(Version::Json);
        containerd.options.io_uid = 1000;
        containerd.options.io_gid = 1001;
        let options = containerd.options.clone();
        let mut web = Web::of(containerd, "web", "sleep 1000");
        web.request.options = Some(corten_shim::proto::Any::pack(
            "containerd.runc.v1.Options",
            &options,
        ));
        let _stdout = web.stdout();
        let pid = web.run();
        let pipe = std::fs::metadata(format!("/proc/{pid}/fd/1")).unwrap();
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!((pipe.uid(), pipe.gid()), (1000, 1001));
        web.end();
    });
}
