// Preloaded into a User Mode Linux kernel that knows no AMX, so that it runs on a machine
// that has it.
//
// Such a kernel saves and restores the extended state of its processes in an area of a
// fixed size, 2696 bytes in Linux 6.1. PTRACE_SETREGSET takes nothing less than the whole
// area of the machine's processor, which is bigger with AMX, and fails with EFAULT: the
// kernel panics at the first process. Here the area is filled up with zeros, and the two
// AMX components marked as unused, which they are. ptrace(2); Intel SDM volume 1, 13.4.
//
// One area is enough: this kernel has one processor, and does not preempt itself.
#define _GNU_SOURCE
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

// The third byte of XSTATE_BV, behind the legacy area; in it the bits 17 and 18.
enum { LEGACY = 512, AMX_BYTE = LEGACY + 2, AMX_BITS = 0x06 };

static char area[64 * 1024];

static long set_extended_state(pid_t pid, const struct iovec *given)
{
	static size_t size;
	struct iovec full = { area, sizeof area };
	void *const kind = (void *)NT_X86_XSTATE;

	if (size == 0) {
		// Tells the size of the whole area.
		if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, kind, &full) < 0)
			return -1;
		size = full.iov_len;
		memset(area, 0, sizeof area);
	}
	if (given->iov_len >= size || given->iov_len <= AMX_BYTE)
		return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, kind, given);
	memcpy(area, given->iov_base, given->iov_len);
	area[AMX_BYTE] &= ~AMX_BITS;
	full.iov_len = size;
	return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, kind, &full);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list list;
	va_start(list, request);
	pid_t pid = va_arg(list, pid_t);
	void *address = va_arg(list, void *);
	void *data = va_arg(list, void *);
	va_end(list);

	if (request == PTRACE_SETREGSET && address == (void *)NT_X86_XSTATE)
		return set_extended_state(pid, data);
	if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
		// The C library returns what the call itself stores.
		long word;
		long rc = syscall(SYS_ptrace, request, pid, address, &word);
		return rc < 0 ? rc : word;
	}
	return syscall(SYS_ptrace, request, pid, address, data);
}
