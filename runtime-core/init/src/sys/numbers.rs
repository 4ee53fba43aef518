//! System call numbers, from the kernel's `syscall_64.tbl` and `unistd.h` (generic).

macro_rules! numbers {
    ($($name:ident $x86_64:literal $aarch64:literal)*) => {
        $(
            #[cfg(target_arch = "x86_64")]
            pub(super) const $name: u64 = $x86_64;
            #[cfg(target_arch = "aarch64")]
            pub(super) const $name: u64 = $aarch64;
        )*
    };
}

numbers! {
    READ 0 63
    WRITE 1 64
    CLOSE 3 57
    LSEEK 8 62
    MMAP 9 222
    RT_SIGACTION 13 134
    RT_SIGPROCMASK 14 135
    IOCTL 16 29
    GETPID 39 172
    SOCKET 41 198
    SENDMSG 46 211
    CLONE 56 220
    EXECVE 59 221
    KILL 62 129
    FCNTL 72 25
    GETCWD 79 17
    CHDIR 80 49
    FCHDIR 81 50
    UMASK 95 166
    SETPGID 109 154
    SETSID 112 157
    SETGROUPS 116 159
    SETRESUID 117 147
    SETRESGID 119 149
    CAPSET 126 91
    FSTATFS 138 44
    SETPRIORITY 141 140
    PIVOT_ROOT 155 41
    PRCTL 157 167
    CHROOT 161 51
    MOUNT 165 40
    UMOUNT2 166 39
    SETHOSTNAME 170 161
    SETDOMAINNAME 171 162
    SCHED_SETAFFINITY 203 122
    GETDENTS64 217 61
    CLOCK_GETTIME 228 113
    EXIT_GROUP 231 94
    WAITID 247 95
    KEYCTL 250 219
    MKDIRAT 258 34
    MKNODAT 259 33
    FCHOWNAT 260 54
    UNLINKAT 263 35
    SYMLINKAT 266 36
    READLINKAT 267 78
    FCHMODAT 268 53
    PPOLL 271 73
    UNSHARE 272 97
    DUP3 292 24
    PIPE2 293 59
    SETNS 308 268
    SECCOMP 317 277
    MEMFD_CREATE 319 279
    STATX 332 291
    OPEN_TREE 428 428
    MOVE_MOUNT 429 429
    FSOPEN 430 430
    FSCONFIG 431 431
    FSMOUNT 432 432
    CLONE3 435 435
    CLOSE_RANGE 436 436
    OPENAT2 437 437
    FACCESSAT2 439 439
    MOUNT_SETATTR 442 442
}
