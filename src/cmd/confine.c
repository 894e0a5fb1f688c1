/* Confines the serving process by Landlock and seccomp. */
#include "cmd/confine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/cleanup.h"
#include "base/clock.h"

/* LeakSanitizer uses ptrace on its own process; ThreadSanitizer runs a thread of its own. */
#ifndef __has_feature
#define __has_feature(feature) 0 /* gcc does not have it, but has the macros below */
#endif
#if defined __SANITIZE_ADDRESS__ || __has_feature(address_sanitizer)
#define TRACES_ITSELF 1
#else
#define TRACES_ITSELF 0
#endif
#if defined __SANITIZE_THREAD__ || __has_feature(thread_sanitizer)
#define HAS_OWN_THREAD 1
#else
#define HAS_OWN_THREAD 0
#endif

/* ---- Landlock: files ---- */

/* The headers of Debian 12 (Linux 6.1) do not define these. */
#define RIGHT_TRUNCATE  (UINT64_C(1) << 14) /* ABI 3 */
#define RIGHT_IOCTL_DEV (UINT64_C(1) << 15) /* ABI 5 */
#define SCOPES          (UINT64_C(3))       /* ABI 6: abstract Unix sockets; signals */

enum { ABI_RENAMES = 2, ABI_TRUNCATE = 3, ABI_IOCTL = 5, ABI_SCOPES = 6 };

enum { ENDING_MS = 2000 }; /* how long threads that are done may take to be gone */

/* The kernel accepts a struct that is longer than the one it knows if the rest is 0. */
struct ruleset {
    uint64_t handled_access_fs, handled_access_net, scoped;
};

static const uint64_t writing_rights =
    LANDLOCK_ACCESS_FS_WRITE_FILE | RIGHT_TRUNCATE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
    LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
    LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REFER;

/* No file or folder gives these rights any more. */
static const uint64_t dropped_rights =
    LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
    LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM | RIGHT_IOCTL_DEV;

/* How many threads there are; 0: they cannot be counted without /proc. */
static unsigned count_threads(void) {
    DIR *tasks = opendir("/proc/self/task");
    if (!tasks)
        return 0;
    unsigned count = 0;
    for (struct dirent *entry; (entry = readdir(tasks));)
        count += entry->d_name[0] != '.';
    closedir(tasks);
    return count;
}

/* Landlock restricts the calling thread and the threads that it starts later, and no other. A
 * thread that has read a file for the configuration is done before the kernel has taken it away,
 * so that is waited for. A thread that hangs with its file does not end. */
static bool is_only_thread(void) {
    const int64_t until_ms = clock_ms() + ENDING_MS;
    while (!HAS_OWN_THREAD && count_threads() > 1) {
        if (clock_ms() >= until_ms)
            return false;
        clock_sleep_ms(1);
    }
    return true;
}

static bool allow_below(int rules, const char *path, uint64_t rights, struct error *error) {
    cleanup_close int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(error, errno, "opening %s", path);
    struct landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = fd};
    return syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0 ||
           error_set_errno(error, errno, "allowing writes below %s", path);
}

/* `roots`: below which files may be written; NULL-terminated. */
static bool restrict_files(const char *const *roots, struct error *error) {
    long abi =
        syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);
    if (abi < 0)
        return error_set_errno(error, errno, "the kernel does not offer it");
    if (abi < ABI_RENAMES) /* its first version forbids every rename between two folders */
        return error_set(error, ERROR_UNSUPPORTED, "the kernel is older than Linux 5.19");
    if (!is_only_thread())
        return error_set(error, ERROR_INVALID, "other threads are running already");
    uint64_t known = writing_rights | dropped_rights;
    if (abi < ABI_TRUNCATE)
        known &= ~RIGHT_TRUNCATE;
    if (abi < ABI_IOCTL)
        known &= ~RIGHT_IOCTL_DEV;
    struct ruleset set = {.handled_access_fs = known, .scoped = abi < ABI_SCOPES ? 0 : SCOPES};
    size_t size = abi < ABI_SCOPES ? sizeof set.handled_access_fs : sizeof set;
    cleanup_close int rules = (int)syscall(SYS_landlock_create_ruleset, &set, size, 0);
    if (rules < 0)
        return error_set_errno(error, errno, "making the rules");
    for (; *roots; roots++)
        if (!allow_below(rules, *roots, writing_rights & known, error))
            return false;
    if (access("/dev/null", F_OK) == 0 &&
        !allow_below(rules, "/dev/null", (LANDLOCK_ACCESS_FS_WRITE_FILE | RIGHT_TRUNCATE) & known,
                     error))
        return false;
    return syscall(SYS_landlock_restrict_self, rules, 0) == 0 ||
           error_set_errno(error, errno, "restricting this process");
}

/* ---- seccomp: system calls ---- */

/* Calls that a cache and its credential helpers never make, and that help an intruder. The list
 * says what is denied, not what is allowed, because the C library and OpenSSL use other calls with
 * each release. */
static const int denied_calls[] = {
/* other processes' memory and descriptors */
#if !TRACES_ITSELF
    SCMP_SYS(ptrace),
#endif
    SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(pidfd_getfd), SCMP_SYS(kcmp),
    SCMP_SYS(process_madvise),
    /* file systems and namespaces */
    SCMP_SYS(mount), SCMP_SYS(umount), SCMP_SYS(umount2), SCMP_SYS(pivot_root), SCMP_SYS(chroot),
    SCMP_SYS(move_mount), SCMP_SYS(open_tree), SCMP_SYS(fsopen), SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount), SCMP_SYS(fspick), SCMP_SYS(mount_setattr), SCMP_SYS(unshare),
    SCMP_SYS(setns), SCMP_SYS(open_by_handle_at), SCMP_SYS(fanotify_init), SCMP_SYS(quotactl),
    SCMP_SYS(quotactl_fd), SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(acct),
    SCMP_SYS(nfsservctl), SCMP_SYS(sysfs), SCMP_SYS(ustat),
    /* the kernel itself */
    SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(create_module),
    SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(reboot), SCMP_SYS(bpf),
    SCMP_SYS(perf_event_open), SCMP_SYS(lookup_dcookie), SCMP_SYS(syslog), SCMP_SYS(_sysctl),
    SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(modify_ldt), SCMP_SYS(vm86), SCMP_SYS(vm86old),
    SCMP_SYS(uselib), SCMP_SYS(personality), SCMP_SYS(vhangup),
    /* calls in which the kernel had many faults, and which a cache does not need */
    SCMP_SYS(userfaultfd), SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register), SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(request_key),
    SCMP_SYS(vmsplice), SCMP_SYS(migrate_pages), SCMP_SYS(move_pages), SCMP_SYS(remap_file_pages),
    /* the machine's clock and names */
    SCMP_SYS(settimeofday), SCMP_SYS(clock_settime), SCMP_SYS(clock_adjtime), SCMP_SYS(adjtimex),
    SCMP_SYS(stime), SCMP_SYS(sethostname), SCMP_SYS(setdomainname)};

/* Each of these functions adds rules to the filter. They return 0, or -errno as libseccomp does. */

static int deny_calls(scmp_filter_ctx filter) {
    int failed = 0;
    for (size_t i = 0; !failed && i < sizeof denied_calls / sizeof *denied_calls; i++)
        failed = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), denied_calls[i], 0);
    return failed;
}

static int deny_namespaces(scmp_filter_ctx filter) {
    static const unsigned flags[] = {CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
                                     CLONE_NEWUSER, CLONE_NEWPID,    CLONE_NEWNET};
    int failed = 0;
    for (size_t i = 0; !failed && i < sizeof flags / sizeof *flags; i++)
        failed = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                                  SCMP_A0(SCMP_CMP_MASKED_EQ, flags[i], flags[i]));
    /* The flags of clone3 are in memory, where a filter cannot see them. Without clone3 the C
     * library uses clone. */
    return failed ? failed : seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

/* Denies all but Unix, IPv4, IPv6 and netlink, by which the C library finds the machine's
 * addresses. */
static int deny_socket_families(scmp_filter_ctx filter) {
    int failed = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                  SCMP_A0(SCMP_CMP_GT, AF_NETLINK));
    for (unsigned family = 0; !failed && family < AF_NETLINK; family++) {
        if (family != AF_UNIX && family != AF_INET && family != AF_INET6)
            failed = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                      SCMP_A0(SCMP_CMP_EQ, family));
    }
    return failed;
}

static int deny_programs(scmp_filter_ctx filter) {
    int failed = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(execve), 0);
    return failed ? failed : seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(execveat), 0);
}

/* The C library maps its modules as executable from their files, and never writes to them. */
static int deny_new_code(scmp_filter_ctx filter) {
    static const unsigned both = PROT_WRITE | PROT_EXEC;
    int failed = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mmap), 1,
                                  SCMP_A2(SCMP_CMP_MASKED_EQ, both, both));
    if (!failed)
        failed = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(mprotect), 1,
                                  SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC));
    if (!failed)
        failed = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(pkey_mprotect), 1,
                                  SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC));
    if (!failed)
        failed = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(shmat), 1,
                                  SCMP_A2(SCMP_CMP_MASKED_EQ, SHM_EXEC, SHM_EXEC));
    return failed;
}

/* Denies all calls of other architectures. But x86 stays allowed beside x86-64 if `programs` may be
 * started, because a helper may be a 32-bit program. */
static int set_up(scmp_filter_ctx filter, bool programs) {
    int failed = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (!failed)
        failed = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM));
    /* With a filter, kernels before 5.16 slow the process down to protect it from other code in the
     * same process. There is no such code here. */
    if (!failed)
        failed = seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    if (!failed && programs && seccomp_arch_native() == SCMP_ARCH_X86_64)
        failed = seccomp_arch_add(filter, SCMP_ARCH_X86);
    return failed;
}

static bool restrict_calls(bool programs, struct error *error) {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (!filter)
        return error_set(error, ERROR_MEMORY, "out of memory");
    int failed = set_up(filter, programs);
    if (failed) {
        error_set_errno(error, -failed, "the kernel does not offer it");
        seccomp_release(filter);
        return false;
    }
    failed = deny_calls(filter);
    if (!failed)
        failed = deny_namespaces(filter);
    if (!failed)
        failed = deny_socket_families(filter);
    if (!failed && !programs)
        failed = deny_programs(filter);
    if (!failed && !programs)
        failed = deny_new_code(filter);
    if (failed)
        error_set_errno(error, -failed, "making the filter");
    else if ((failed = seccomp_load(filter)))
        error_set_errno(error, -failed, "the kernel does not offer it");
    seccomp_release(filter);
    return !failed;
}

/* ---- all of it ---- */

/* `source`: what may start a program; NULL: nothing. */
static bool confine_to(const struct config *config, const char *const *roots, const char *source,
                       struct error *error) {
    bool privileged = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0;
    if (config->confine == CONFIG_CONFINE_OFF) {
        log_at(LOG_INFO, "not confined", LOG_STRING("reason", "confine: off"));
        return true;
    }
    struct error files = {0}, calls = {0};
    if (source)
        error_set(&files, ERROR_UNSUPPORTED, "credentials (%s) may run programs", source);
    else
        restrict_files(roots, &files);
    restrict_calls(source != NULL, &calls);

    bool all = !privileged && !files.kind && !calls.kind;
    bool missed = privileged || calls.kind || (files.kind && !source);
    char files_text[160], calls_text[160];
    snprintf(files_text, sizeof files_text, "%s%.150s", files.kind ? "off: " : "",
             files.kind ? files.text
             : *roots   ? "writes only below root"
                        : "writes nowhere");
    snprintf(calls_text, sizeof calls_text, "%s%.150s", calls.kind ? "off: " : "",
             calls.kind ? calls.text : "on");
    if (config->confine == CONFIG_CONFINE_REQUIRE && !all)
        return error_set(error, ERROR_UNSUPPORTED,
                         "confine: require is not possible: landlock %s; seccomp %s%s", files_text,
                         calls_text, privileged ? "; privileges can be gained" : "");
    log_at(missed ? LOG_WARN : LOG_INFO, all ? "confined" : "confined in part",
           LOG_STRING("landlock", files_text), LOG_STRING("seccomp", calls_text),
           LOG_STRING("programs", source || (calls.kind && files.kind) ? "allowed" : "denied"));
    return true;
}

bool confine(const struct config *config, struct error *error) {
    const char *const roots[] = {config->root, NULL};
    return confine_to(config, roots, config_program_source(CONFIG_OF_SERVE, config), error);
}

bool confine_keep(const struct config *config, const char *program, struct error *error) {
    const char *const none[] = {NULL};
    if (!program)
        program = config_program_source(CONFIG_OF_KEEP, config);
    return confine_to(config, none, program, error);
}

bool confine_node(const struct config *config, const char *run, const char *root,
                  struct error *error) {
    const char *const roots[] = {root, run, NULL};
    return confine_to(config, roots, config_program_source(CONFIG_OF_NODE, config), error);
}
